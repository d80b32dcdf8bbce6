"""The asyncio client: the same answers and errors, awaited; a cancelled task cancels its request."""

import asyncio
import inspect

import pytest

import espalier
from test_client import INSPECTION, answer, children, failure, progress
from test_espalierd import MOBILE, RESNET


def test_it_has_the_methods_of_the_client_that_waits():
    for name in ("inspect", "recommend", "sensitivity", "compress", "verify", "models", "release", "ping"):
        waits, awaits = getattr(espalier.Client, name), getattr(espalier.AsyncClient, name)
        assert inspect.signature(waits) == inspect.signature(awaits) and waits.__doc__ == awaits.__doc__
        assert inspect.iscoroutinefunction(awaits) and "self" in inspect.signature(awaits).parameters


def test_many_at_once(espalierd, tmp_path):
    before = children()

    async def work():
        async with espalier.AsyncClient(espalierd) as client:
            first = await client.inspect(RESNET)
            reports = await asyncio.gather(*(client.inspect(model) for model in [RESNET, MOBILE] * 5))
            files = await asyncio.gather(
                *(client.compress(RESNET, tmp_path / f"{i}.onnx", recommendation_ratio=0.3) for i in range(5))
            )
            return first, reports, files

    first, reports, files = asyncio.run(work())
    assert [report.macs for report in reports[::2]] == [first.macs] * 5
    assert len({made.output_path.read_bytes() for made in files}) == 1
    assert set(children()) <= set(before)


def test_parts_of_a_result_come_on_the_loop(espalierd):
    heard = []

    async def work():
        async with espalier.AsyncClient(espalierd) as client:
            loop = asyncio.get_running_loop()
            data = RESNET.parent / "digits_calibration.npy"
            found = await client.sensitivity(
                RESNET, data, ratios=[0.5], on_group=lambda group: heard.append((group, asyncio.get_running_loop() is loop))
            )
            assert heard == [(group, True) for group in found.groups] and heard

    asyncio.run(work())


def test_a_cancelled_task_cancels_its_request(fake):
    async def work():
        async with espalier.AsyncClient(fake.command(inspect=[{"do": "wait"}])) as client:
            task = asyncio.create_task(client.inspect("/m.onnx"))
            while not fake.log.exists() or not fake.received("inspect"):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.ping()
            with pytest.raises(espalier.CallTimeout, match="0.05 s"):
                await client.inspect("/m.onnx", timeout=0.05)
            await client.ping()

    asyncio.run(work())
    assert len(fake.received("$/cancelRequest")) == 2


def test_errors_and_progress_are_those_of_the_client_that_waits(fake):
    loops = []

    async def work():
        script = {
            "inspect": [progress("begin", title="x"), progress("end"), answer(INSPECTION)],
            "recommend": [failure(-32803, "no file", kind="model.notFound", retryable=False)],
        }
        client = espalier.AsyncClient(fake.command(**script))
        steps = []

        def report(step):
            loops.append(asyncio.get_running_loop())
            steps.append(step.kind)

        assert (await client.inspect("/m.onnx", progress=report)).cached
        with pytest.raises(espalier.ServerError) as caught:
            await client.recommend("/m.onnx", recommendation_ratio=0.5)
        assert caught.value.kind == "model.notFound"
        with pytest.raises(ValueError, match="either"):
            await client.recommend("/m.onnx")
        await client.close()
        with pytest.raises(espalier.ServerStopped, match="closed"):
            await client.ping()
        assert steps == ["begin", "end"] and set(loops) == {asyncio.get_running_loop()}

    asyncio.run(work())
