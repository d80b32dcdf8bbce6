import CLinux

/// Settles how the C library keeps memory, before the first thread starts.
///
/// A request makes and drops some hundred thousand small objects on a thread of its own. As it comes, the library gives
/// each thread a heap that grows by single pages, each growth a call to the system and every page a fault, and hands
/// them back as eagerly: a tenth of the time of a request on a large model.
package func configureHeap() { linux_configure_heap() }
