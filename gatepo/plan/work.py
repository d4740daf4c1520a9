"""What a run does, and how trainer and sampler keep the model for it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

MOMENTS = 8  # bytes per parameter: AdamW's two moments in fp32
# Bytes per logit alive at once in rollout.transformers.sample: logits, log-softmax in fp32, and two arrays of float64
# while they are summed.
SAMPLED_LOGIT_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How much a run samples and learns from. A device is one rank; figures per device are those of the busiest."""

    prompts: int  # of a rollout batch and of each update on it, over all devices
    num_generations: int  # G
    iterations: int  # mu
    updates: int  # of the run
    devices: int
    micro: int | None  # completions that one device runs at once; None: all of its own
    micro_tokens: int | None = None  # tokens that one device runs at once; None: any number
    max_sequences: int  # completions that one device decodes at once
    prompt_length: int  # tokens
    completion_length: int  # tokens
    learning: float = 1.0  # share of completions with an advantage; the others need no backward pass

    @property
    def completions(self) -> int:
        """Completions of an update, over all devices."""
        return self.prompts * self.num_generations

    @property
    def device_prompts(self) -> int:
        """Groups stay whole, and the shares of the devices differ by one at the most."""
        return ceil(self.prompts / self.devices)

    @property
    def device_completions(self) -> int:
        """Completions that one device samples and learns from."""
        return self.device_prompts * self.num_generations

    @property
    def micro_batch(self) -> int:
        """Completions that one device runs at once, each with its own prompt."""
        return self.cut(self.device_prompts, shares=False)[0][0]

    @property
    def accumulation(self) -> int:
        """Micro-batches per device and update."""
        return len(self.cut(self.device_prompts, shares=False))

    def cut(self, prompts: int, shares: bool) -> list[tuple[int, int]]:
        """Give completions and prompts read of each micro-batch, as :func:`gatepo.engine.passes.micro_batches` cuts.

        Args:
          prompts: groups.
          shares: whether a prompt is read once for the completions of its group in a micro-batch.
        """
        found: list[tuple[int, int]] = []
        for completion in range(prompts * self.num_generations):
            n, p = found[-1] if found else (0, 0)
            n, p = n + 1, p + (not shares or n == 0 or completion % self.num_generations == 0)
            tokens = p * self.prompt_length + n * self.completion_length
            full = n > (self.micro or n) or tokens > (self.micro_tokens or tokens)
            found[-1:] = [*found[-1:], (1, 1)] if full and n > 1 else [(n, p)]
        return found

    def tokens_read(self, prompts: int, shares: bool) -> int:
        """Count tokens of an update that go through the body: the last of a completion only stands as a target."""
        return sum(p * self.prompt_length + n * (self.completion_length - 1) for n, p in self.cut(prompts, shares))

    @property
    def rollout_batches(self) -> int:
        """Rollout batches of the run, one for every mu updates."""
        return ceil(self.updates / self.iterations)

    @property
    def prompts_taken(self) -> int:
        """Prompts that the run takes."""
        return self.rollout_batches * self.prompts

    @property
    def completions_sampled(self) -> int:
        """Completions that the run samples."""
        return self.rollout_batches * self.completions

    @property
    def tokens_sampled(self) -> int:
        """Tokens that the run samples at the most."""
        return self.completions_sampled * self.completion_length

    @property
    def decoded_at_once(self) -> int:
        """Completions in the sampler of one device: whole groups."""
        fit = max(1, self.max_sequences // self.num_generations)
        return min(self.device_prompts, fit) * self.num_generations

    @property
    def tokens(self) -> int:
        """Tokens of one completion that the body reads when it learns: the last one only stands as a target."""
        return self.prompt_length + self.completion_length - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How trainer and sampler keep the model. Bytes are per parameter."""

    dtype: str  # that the body computes in: float32 or bfloat16
    weights: int  # that forward and backward passes read
    master: int = 0  # fp32 copy that the optimizer steps on, where weights are bf16
    autocast: bool = False  # fp32 weights, cast to bf16 for each pass
    accumulated: int | None = None  # gradients, where they add up in another precision than the weights'
    zero_stage: int = 0
    offload_optimizer: bool = False
    flattened: bool = False  # weights exist twice for a moment, as the trainer is made
    gradients_kept: bool = True  # between updates
    gradients_on_host: bool = False
    host_copies: int = 0  # on the host, beside offloaded optimizer states
    reference: int = 0  # weights of the initial policy, where a KL penalty holds on to it
    trained: int | None = None  # parameters of an adapter, which alone learn; None: all of the model
    rows: int = 0  # that an adapter's first maps have in a layer, all together
    frozen: int | None = None  # bytes of the matrices of the body beneath an adapter, where `weights` are not theirs
    checkpointing: bool = False  # layers are run again in the backward pass instead of kept
    slice_width: int | None = None  # logits of a token that exist at once; None: the whole vocabulary
    head_mib: int = 0  # softmax terms that slices keep beyond what the head's gradient has room for; 0: none at all
    sampler: str = "trainer"  # what decodes: the trainer's module, a "copy" of it in fp32, or an engine of its "own"
    sampler_shards: int = 1  # devices that share one copy of such an engine's weights
    sampler_logit_bytes: int = SAMPLED_LOGIT_BYTES
    sampler_sleeps: bool = False  # its weights wait in the host's memory while the trainer learns

    def learning(self, parameters: int) -> int:
        """Give how many parameters learn, of a model that has so many: all, or those of an adapter beside them."""
        return parameters if self.trained is None else self.trained

    @property
    def gradients(self) -> int:
        """Bytes of each kept gradient."""
        return self.weights if self.accumulated is None else self.accumulated

    @property
    def optimizer(self) -> int:
        """Bytes of the master copy and the moments."""
        return self.master + MOMENTS

    @property
    def decoder(self) -> int:
        """Bytes per parameter that decoding reads: transformers' sampler casts its fp32 weights once per rollout."""
        return 4 if self.dtype == "float32" else 2

    @property
    def cached(self) -> int:
        """Bytes of one key and one value. In transformers' autocast rotary positions leave keys in fp32."""
        return 6 if self.dtype == "bfloat16" and self.sampler != "own" else 2 * self.decoder
