"""Wrapping changes nothing for its caller: same results, same random streams, same exceptions, same signature."""

from __future__ import annotations

import asyncio
import base64
import copy
import inspect
import os
import pickle
import random
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from plausible.ledger import LatentInput, Ledger
from plausible.ledger.entries.digests import pixel_digest, tensor_digest
from plausible.ledger.recorder.capture import restore
from plausible.ledger.recorder.frozen import tensor_bytes
from plausible.ledger.recorder.target import Parameters
from plausible.ledger.seeds.committed import check_latent
from plausible.schemas.errors import SetupError, UsageError
from plausible.schemas.record import Record, weakest_grade
from plausible.schemas.text import unb64
from torch import Tensor, nn

from tests.ledger.studio import make, manifest


class Decoder(nn.Module):
    """Latents [B, 8] to pictures [B, 3, 16, 16] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3 * 16 * 16)
        self.temperature = 1.0

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.layer(z) * self.temperature).view(-1, 3, 16, 16)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder().eval()


@pytest.fixture
def ledger(tmp_path: Path, decoder: Decoder) -> Iterator[Ledger]:
    with make(tmp_path / "a.ledger") as opened:
        opened.register_model("decoder", manifest=manifest(tensors=rows(decoder)))
        yield opened


def rows(module: nn.Module) -> list[Any]:
    found: list[Any] = []
    for name, tensor in module.state_dict().items():
        dtype, shape, data = tensor_bytes(tensor)
        found.append((name, dtype, shape, tensor_digest(dtype, shape, data)))
    return found


def recorded(ledger: Ledger) -> list[Record]:
    ledger.flush()
    return [record for _, _, record in ledger.records()]


def streams() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return random.getstate(), tuple(map(str, (state[1].tolist(), *state[2:]))), torch.get_rng_state().tolist()


def seed_all() -> None:
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)


def from_torch(count: int) -> Tensor:
    return torch.rand(count, 3, 16, 16) * 2 - 1


def from_numpy(count: int) -> Any:
    return np.random.randint(0, 256, (count, 16, 16, 3)).astype(np.uint8)


def from_numpy_normal(count: int) -> Any:
    # an odd number of normals leaves one in RandomState's cache: it belongs to the state too
    return np.clip(np.random.standard_normal((count, 3, 16, 16))[..., :15, :15] * 0 + np.random.randn(), -1, 1)


def from_random(count: int) -> Any:
    made = [PIL.Image.new("RGB", (16, 16), tuple(random.randrange(256) for _ in range(3))) for _ in range(count)]
    random.gauss(0, 1)
    return made


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, PIL.Image.Image):
        return one.tobytes() == other.tobytes()
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool((one == other).all())


@pytest.mark.parametrize("target", [from_torch, from_numpy, from_numpy_normal, from_random])
def test_results_and_streams_are_those_of_the_unwrapped_call(ledger: Ledger, target: Callable[[int], Any]) -> None:
    seed_all()
    expected = [target(1), target(3)]
    after = streams()
    wrapped = ledger.wrap(target, model="m")
    seed_all()
    assert equal([wrapped(1), wrapped(3)], expected)
    assert streams() == after
    assert len(recorded(ledger)) == 4


@pytest.mark.parametrize("target", [from_torch, from_numpy, from_numpy_normal, from_random])
def test_the_recorded_state_brings_the_picture_back(ledger: Ledger, target: Callable[[int], Any]) -> None:
    seed_all()
    target(2)
    ledger.wrap(target, model="m")(1)
    [record] = recorded(ledger)
    assert record.rng is not None and weakest_grade(record) == "captured"
    assert len(record.rng.sources) == 1, "streams the call did not touch are not recorded"
    random.seed()
    torch.seed()
    np.random.seed()
    [source] = record.rng.sources
    restore(source.algorithm, unb64(source.state or ""))
    again = ledger.wrap(target, model="m")(1)
    assert again is not None
    first, second = recorded(ledger)
    assert first.context.pixels == second.context.pixels


def test_generators_among_the_arguments_are_recorded_and_come_back(ledger: Ledger) -> None:
    def draw(a: torch.Generator, b: list[Any], *, c: random.Random) -> Any:
        z = torch.rand(3, 16, 16, generator=a) * 2 - 1
        return z * float(b[0].random()) * float(b[1].rand()) * c.random()

    def generators() -> tuple[Any, ...]:
        return torch.Generator().manual_seed(3), [np.random.default_rng(4), np.random.RandomState(5)], random.Random(6)

    a, b, c = generators()
    expected = draw(a, b, c=c)
    a, b, c = generators()
    assert torch.equal(ledger.wrap(draw, model="m")(a, b, c=c), expected)
    [record] = recorded(ledger)
    assert record.call is not None and record.rng is not None
    assert record.call.arguments["a"] == {"rng": 0}
    assert record.call.arguments["b"] == [{"rng": 1}, {"rng": 2}]
    assert record.call.arguments["c"] == {"rng": 3}
    a, b, c = torch.Generator(), [np.random.default_rng(), np.random.RandomState()], random.Random()
    for target, source in zip((a, *b, c), record.rng.sources, strict=True):
        restore(source.algorithm, unb64(source.state or ""), target)
    assert torch.equal(draw(a, b, c=c), expected)


def test_a_latent_left_out_is_drawn_from_committed_seeds(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    before = streams()
    with torch.no_grad():
        made = torch.cat([wrapped(3), wrapped()])
    assert streams() == before
    records = recorded(ledger)
    assert [record.call.batch.size for record in records if record.call] == [3, 3, 3, 1]
    for record, picture in zip(records, made, strict=True):
        assert record.latent is not None and record.latent.grade == "committed-fresh"
        check = check_latent(record.latent, record.context)
        assert check.status == "equal" and check.z is not None
        with torch.no_grad():
            again = decoder(torch.from_numpy(check.z)[None])[0]
        # a batch of one may differ in the last bits from a batch of three; its 8-bit samples rarely do
        assert torch.allclose(again, picture, atol=1e-5)
    assert len({record.context.draw for record in records}) == 4


def test_latents_made_ahead_are_as_good_as_those_made_now(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    before = streams()
    with torch.no_grad():
        for _ in range(4):
            wrapped(30)
            ledger.flush("accepted")  # meanwhile the writer's thread makes some ready
    assert streams() == before
    records = recorded(ledger)
    assert all(r.latent and check_latent(r.latent, r.context).status == "equal" for r in records)
    assert len({r.context.draw for r in records}) == len({r.latent.seed_secret for r in records if r.latent}) == 120


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_latents_made_ahead_are_not_given_out_again_after_a_fork(ledger: Ledger) -> None:
    def generate(z: Any) -> Any:
        return np.clip(np.asarray(z)[:, None, None, :3] * np.ones((1, 6, 6, 1)), -1, 1).astype(np.float32)

    wrapped = ledger.wrap(generate, model="m", latent="z")
    wrapped(2)
    ledger.flush("accepted")
    pid = os.fork()
    if pid == 0:
        try:
            wrapped(20)
            ledger.flush("accepted")
            ledger.close()
        except Exception:  # noqa: BLE001
            os._exit(1)
        os._exit(0)
    wrapped(20)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    records = recorded(ledger)
    assert len(records) == 42 and len({r.context.draw for r in records}) == 42
    assert len({r.latent.seed_secret for r in records if r.latent}) == 42


def test_a_latent_given_is_captured_whole(ledger: Ledger, decoder: Decoder) -> None:
    z = torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(ledger.wrap(decoder, model="decoder", latent="z")(z), decoder(z))
    for number, record in enumerate(recorded(ledger)):
        assert record.latent is not None and record.latent.grade == "captured"
        assert unb64(record.latent.values or "") == z[number].numpy().tobytes()


def test_a_latent_of_a_function_counts_by_its_batch(ledger: Ledger, decoder: Decoder) -> None:
    @torch.no_grad()
    def generate(count: int, z: Tensor | None = None) -> Tensor:
        assert z is not None and z.shape == (count, 8)
        return decoder(z)

    wrapped = ledger.wrap(generate, model="decoder", latent=LatentInput("z", (8,), batch="count"))
    assert wrapped(2).shape == (2, 3, 16, 16)
    assert wrapped(1, torch.zeros(1, 8)).shape == (1, 3, 16, 16)
    assert [r.latent.grade for r in recorded(ledger) if r.latent] == ["committed-fresh", "committed-fresh", "captured"]


def test_other_priors_are_not_committed_to(ledger: Ledger) -> None:
    wrapped = ledger.wrap(lambda z: z, model="m", latent=LatentInput("z", (8,), "uniform"))
    with pytest.raises(UsageError, match="uniform"):
        wrapped()


def test_a_wrapped_module_is_the_module(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    assert isinstance(wrapped, Decoder)
    assert wrapped.layer is decoder.layer and list(wrapped.state_dict()) == list(decoder.state_dict())
    wrapped.temperature = 2.0
    assert decoder.temperature == 2.0
    assert wrapped.train() is wrapped and decoder.training
    decoder.eval()
    assert not wrapped.training
    assert inspect.signature(wrapped.forward) == inspect.signature(decoder.forward)
    seen: list[int] = []
    handle = wrapped.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        wrapped(torch.zeros(1, 8))
        nn.Sequential(wrapped)(torch.zeros(1, 8))
    handle.remove()
    assert len(seen) == 2 and len(recorded(ledger)) == 2


def test_copies_of_a_wrapped_module_are_plain(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert type(other) is Decoder
        other(torch.zeros(1, 8))
    assert recorded(ledger) == []


def test_weights_that_change_in_place_are_refused(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    wrapped(1)
    with torch.no_grad():
        decoder.layer.bias.add_(1)
    with pytest.raises(SetupError, match=r"layer\.bias"):
        wrapped(1)
    with torch.no_grad():
        decoder.layer.bias.sub_(1)
    decoder.layer.weight = nn.Parameter(decoder.layer.weight.detach() * 2)
    with pytest.raises(SetupError, match=r"layer\.weight"):
        wrapped(1)
    assert len(recorded(ledger)) == 1


def test_weights_written_with_the_same_values_are_the_model_still(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    with torch.no_grad():
        decoder.layer.weight.copy_(decoder.layer.weight.clone())
    wrapped(1)
    decoder.load_state_dict({name: tensor.clone() for name, tensor in decoder.state_dict().items()}, assign=True)
    wrapped(1)
    assert len(recorded(ledger)) == 2


def test_another_models_weights_are_refused_at_once(ledger: Ledger) -> None:
    torch.manual_seed(1)
    with pytest.raises(SetupError, match="not those registered as 'decoder'"):
        ledger.wrap(Decoder().eval(), model="decoder")


def test_exceptions_pass_through_unrecorded_and_are_counted(ledger: Ledger) -> None:
    class OwnError(Exception):
        pass

    def fails(value: int) -> Any:
        torch.rand(1)
        raise OwnError(value)

    wrapped = ledger.wrap(fails, model="m")
    torch.manual_seed(1)
    with pytest.raises(OwnError, match="3"):
        wrapped(3)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    torch.rand(1)
    assert torch.equal(after, torch.get_rng_state())
    with pytest.raises(TypeError, match="value"):
        wrapped()
    assert ledger.counters.exceptions == 2 and recorded(ledger) == []


def test_what_a_python_generator_yields_is_recorded_piece_by_piece(ledger: Ledger) -> None:
    def steps(count: int) -> Generator[Tensor, int, str]:
        for _ in range(count):
            factor = yield torch.rand(3, 16, 16) * 2 - 1
            if factor:
                yield torch.rand(3, 16, 16) * 0.5
        return "done"

    def run(target: Any) -> list[Any]:
        torch.manual_seed(3)
        generator = target(2)
        made: list[Any] = [next(generator), generator.send(1), next(generator)]
        with pytest.raises(StopIteration) as stop:
            next(generator)
        return [*made, stop.value.value]

    plain, wrapped = run(steps), run(ledger.wrap(steps, model="m"))
    assert plain[3] == wrapped[3] == "done"
    assert all(torch.equal(a, b) for a, b in zip(plain[:3], wrapped[:3], strict=True))
    assert len({record.context.pixels for record in recorded(ledger)}) == 3


def test_a_generator_can_be_closed_and_thrown_into(ledger: Ledger) -> None:
    closed: list[str] = []

    def steps() -> Generator[Tensor, None, None]:
        try:
            while True:
                try:
                    yield torch.zeros(3, 16, 16)
                except KeyError:
                    closed.append("caught")
        finally:
            closed.append("closed")

    generator = ledger.wrap(steps, model="m")()
    next(generator)
    generator.throw(KeyError())
    generator.close()
    assert closed == ["caught", "closed"] and len(recorded(ledger)) == 2


def test_coroutines_are_recorded_each_for_itself(ledger: Ledger) -> None:
    async def generate(number: int) -> Any:
        await asyncio.sleep(0.01)
        return np.full((16, 16, 3), number, np.uint8)

    wrapped = ledger.wrap(generate, model="m")

    async def main() -> list[Any]:
        return await asyncio.gather(*(wrapped(number) for number in range(5)))

    assert [int(made[0, 0, 0]) for made in asyncio.run(main())] == [0, 1, 2, 3, 4]
    assert len(recorded(ledger)) == 5


def test_a_wrapped_function_over_a_wrapped_module_records_once(ledger: Ledger, decoder: Decoder) -> None:
    inner = ledger.wrap(decoder, model="decoder", latent="z")

    @ledger.record(model="decoder")
    def outer(count: int) -> Tensor:
        return inner(torch.zeros(count, 8))

    outer(2)
    name = f"{outer.__module__}.{outer.__qualname__}"
    assert [record.call.callable for record in recorded(ledger) if record.call] == [name, name]


def test_a_decorated_function_keeps_its_face(ledger: Ledger) -> None:
    @ledger.record(model="m")
    def generate(count: int = 1, *, psi: float = 0.7) -> Any:
        """Make pictures."""
        return from_numpy(count)

    assert (generate.__name__, generate.__doc__) == ("generate", "Make pictures.")
    assert list(inspect.signature(generate).parameters) == ["count", "psi"]
    generate(2)
    first = recorded(ledger)[0]
    assert first.call is not None and first.call.arguments == {"count": 2}
    assert first.style is not None and first.style["psi"].value == {"f64": "3fe6666666666666"}


def test_callable_objects_keep_their_attributes(ledger: Ledger) -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.steps = 3

        def __call__(self, prompt: str) -> Any:
            return {"images": [PIL.Image.new("RGB", (8, 8), (self.steps, 0, 0))], "prompt": prompt}

    pipeline = Pipeline()
    wrapped = ledger.wrap(pipeline, model="m")
    wrapped.steps = 9
    assert isinstance(wrapped, Pipeline) and pipeline.steps == 9
    assert wrapped("a face")["prompt"] == "a face"
    [record] = recorded(ledger)
    assert record.call is not None and record.call.arguments == {"prompt": "a face"}
    assert record.context.pixels.endswith(pixel_digest(np.full((8, 8, 3), (9, 0, 0), np.uint8)).hex())


def test_arguments_are_those_before_the_call_and_outputs_those_after_it(ledger: Ledger) -> None:
    buffer = np.zeros((16, 16, 3), np.uint8)

    def generate(seen: Any) -> Any:
        buffer[:] += 1
        seen += 1
        return buffer

    wrapped = ledger.wrap(generate, model="m")
    argument = np.zeros(4, np.float32)
    for _ in range(3):
        wrapped(argument)
    records = recorded(ledger)
    for number, record in enumerate(records):
        assert record.context.pixels.endswith(pixel_digest(np.full((16, 16, 3), number + 1, np.uint8)).hex())
        digest = tensor_digest("float32", (4,), np.full(4, number, "<f4").tobytes()).hex()
        assert record.call is not None
        assert record.call.arguments["seen"]["tensor"]["sha256"] == f"sha256:{digest}"  # type: ignore[index,call-overload]


def test_maps_given_in_one_mapping_are_kept_each_with_its_values(ledger: Ledger) -> None:
    maps = {"noise_0": torch.randn(4, 4), "noise_1": torch.randn(1, 8, 8)}

    def render(noise: Any) -> Tensor:
        made = torch.full((1, 3, 16, 16), float(noise["noise_0"].mean().tanh()))
        noise["noise_0"].zero_()
        return made

    was = maps["noise_0"].clone()
    ledger.wrap(render, model="decoder", noise=["noise"])(maps)
    ledger.wrap(lambda noise: torch.zeros(1, 3, 16, 16), model="decoder", noise=["noise"])({"scale": 2, "seed": "a"})
    kept, plain = (record.noise or {} for record in recorded(ledger))
    assert sorted(kept) == ["noise.noise_0", "noise.noise_1"]
    tensor = kept["noise.noise_0"].tensor
    assert tensor is not None
    assert tensor.shape == (4, 4)
    assert unb64(tensor.values or "", "values") == was.numpy().tobytes()
    assert list(plain) == ["noise"], "a mapping without arrays is one value"
    with ledger.generation(model="decoder", noise={"layers": maps}) as block:
        block.output(torch.zeros(1, 3, 16, 16))
    assert sorted(recorded(ledger)[-1].noise or {}) == ["layers.noise_0", "layers.noise_1"]


def test_threads_record_each_their_own(ledger: Ledger, decoder: Decoder) -> None:
    wrapped = ledger.wrap(decoder, model="decoder", latent="z")
    results: dict[int, Tensor] = {}
    torch.set_num_threads(1)

    def work(number: int) -> None:
        with torch.no_grad():
            for step in range(5):
                results[number * 5 + step] = wrapped(torch.full((1, 8), float(number * 5 + step)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = recorded(ledger)
    values = sorted(np.frombuffer(unb64(r.latent.values or ""), "<f4")[0] for r in records if r.latent)
    assert values == [float(number) for number in range(20)]
    assert len({record.context.draw for record in records}) == 20


def test_what_is_no_picture_is_said_so(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="no picture"):
        ledger.wrap(lambda: "a poem", model="m")()
    with pytest.raises(UsageError, match="2 pictures for 1 latents"):
        ledger.wrap(lambda z: from_numpy(2), model="m", latent=(8,))()


def test_the_generation_block(ledger: Ledger, decoder: Decoder) -> None:
    before = streams()
    with torch.no_grad(), ledger.generation(model="decoder", arguments={"prompt": "x"}) as g:
        made = decoder(g.latent((2, 8)))
        receipts = g.output(made)
    assert streams() == before
    assert [receipt.wait("witnessed", 20).state for receipt in receipts] == ["witnessed"] * 2
    for record in recorded(ledger):
        assert record.latent is not None and check_latent(record.latent, record.context).status == "equal"
        assert record.call is not None and record.call.arguments == {"prompt": "x"}


def test_a_block_that_raises_records_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.generation(model="m") as g:
        g.latent((1, 8))
        raise ZeroDivisionError
    assert ledger.counters.exceptions == 1 and recorded(ledger) == []
    with pytest.raises(UsageError, match="inside its with block"):
        g.output(from_numpy(1))


def test_a_generation_sees_the_streams_it_used(ledger: Ledger) -> None:
    with ledger.generation(model="m") as g:
        g.output(from_torch(1))
    [record] = recorded(ledger)
    assert record.rng is not None and [source.algorithm for source in record.rng.sources] == ["torch.cpu"]


def test_the_latent_is_recognised_by_its_name_and_shape(ledger: Ledger, decoder: Decoder) -> None:
    """`ledger.wrap(generate, model=...)` alone makes records that can be replayed; nothing is ever drawn for it."""
    generate = ledger.wrap(decoder, model="decoder")
    z = torch.randn(2, 8)
    before = streams()
    assert torch.equal(generate(z), decoder(z))
    assert streams() == before
    found = recorded(ledger)
    assert [record.latent.grade for record in found if record.latent] == ["captured", "captured"]
    assert [record.latent.values for record in found if record.latent] == [
        base64.b64encode(row.numpy().astype("<f4").tobytes()).decode() for row in z
    ]
    with pytest.raises(TypeError):
        generate()


def test_what_only_has_the_name_is_no_latent(ledger: Ledger, decoder: Decoder) -> None:
    """Another shape, another count of pictures, left out: recorded as arguments, and the call is what it was."""

    def make_one(z: Tensor | None = None, scale: float = 1.0) -> Tensor:
        return decoder(torch.ones(1, 8) * scale if z is None or z.shape[-1] != 8 else z[:1])

    generate = ledger.wrap(make_one, model="decoder")
    for z in (None, torch.ones(1, 3), torch.ones(4, 8)):
        assert torch.equal(generate(z), make_one(z))
    found = recorded(ledger)
    assert len(found) == 3
    assert [record.latent for record in found] == [None, None, None]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((1,), {"c": 9}), ((), {"a": 0}), ((), {}), ((1, 2, 3, 4), {})],
)
def test_arguments_are_bound_as_python_binds_them(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    default = np.zeros(3)

    def call(a: int, b: Any = default, c: int = 7) -> None: ...

    signature = inspect.signature(call)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            Parameters.of(signature).bind(args, kwargs)
        return
    bound.apply_defaults()
    found = Parameters.of(signature).bind(args, kwargs)
    assert list(found) == ["a", "b", "c"] and all(found[name] is value for name, value in bound.arguments.items())
