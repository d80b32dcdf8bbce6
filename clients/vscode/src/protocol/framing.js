// Messages on a byte stream, in the base protocol of the Language Server Protocol: header, empty line, body.
'use strict';

const SEPARATOR = Buffer.from('\r\n\r\n');

/** A message as bytes. */
function encode(message) {
  const body = Buffer.from(JSON.stringify(message), 'utf8');
  return Buffer.concat([Buffer.from(`Content-Length: ${body.length}\r\n\r\n`, 'ascii'), body]);
}

/** Takes chunks as they come, however they are cut, and gives the messages that are whole. */
class Decoder {
  #chunks = [];
  #bytes = 0;
  // No message can be whole before there are so many bytes; spares joining the chunks of a long one again and again.
  #needed = 1;

  /** The messages that `chunk` completes. Throws where the stream cannot be followed any further. */
  push(chunk) {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const messages = [];
    while (this.#bytes >= this.#needed) {
      const buffer = Buffer.concat(this.#chunks);
      const end = buffer.indexOf(SEPARATOR);
      let rest = buffer;
      if (end < 0) {
        this.#needed = buffer.length + 1;
      } else {
        const header = buffer.toString('latin1', 0, end);
        const length = /^content-length: *(\d+) *$/im.exec(header);
        if (!length) throw new Error(`a message without Content-Length: ${JSON.stringify(header.slice(0, 80))}`);
        this.#needed = end + SEPARATOR.length + Number(length[1]);
        if (buffer.length >= this.#needed) {
          messages.push(JSON.parse(buffer.toString('utf8', end + SEPARATOR.length, this.#needed)));
          rest = buffer.subarray(this.#needed);
          this.#needed = 1;
        }
      }
      this.#chunks = [rest];
      this.#bytes = rest.length;
    }
    return messages;
  }
}

module.exports = { encode, Decoder };
