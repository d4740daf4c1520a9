"""Named devices and what they can do at best. Dense figures: data sheets also print twice as much for sparse ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Peaks of one device."""

    name: str
    memory: float  # GiB that a process can have
    bfloat16: float  # FLOP/s of matrix products
    float32: float  # FLOP/s of matrix products; torch's default, without TF32
    bandwidth: float  # bytes/s from memory
    cpu: bool = False  # there a trainer reads a prompt once for its group, and the head multiplies in fp32

    def peak(self, dtype: str) -> float:
        """Give FLOP/s in ``float32`` or ``bfloat16``."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


HARDWARE = (
    # NVIDIA Ada GPU architecture white paper: BF16 165.2 (dense, sums in fp32), FP32 82.6 TFLOP/s, 1,008 GB/s.
    # Memory: capacity that torch reports (ali-vilab/VGen issue 104).
    Hardware(name="RTX-4090", memory=23.64, bfloat16=165.2e12, float32=82.6e12, bandwidth=1.008e12),
    # NVIDIA A100 Tensor Core GPU data sheet, 80 GB SXM: BF16 312 (dense), FP32 19.5 TFLOP/s, 2,039 GB/s.
    # Memory: capacity that torch reports (vllm-project/vllm issue 4408).
    Hardware(name="A100-80G", memory=79.15, bfloat16=312e12, float32=19.5e12, bandwidth=2.039e12),
    # NVIDIA H100 Tensor Core GPU architecture white paper, SXM5: BF16 989.4 (dense), FP32 66.9 TFLOP/s; data sheet:
    # 3.35 TB/s. Memory: capacity that torch reports (vllm-project/vllm issue 27508).
    Hardware(name="H100-SXM", memory=79.11, bfloat16=989.4e12, float32=66.9e12, bandwidth=3.35e12),
    # NVIDIA H200 Tensor Core GPU data sheet, SXM: the H100's chip with 141 GB at 4.8 TB/s.
    # Memory: what a machine with one gives to a process, rounded down.
    Hardware(name="H200", memory=139.0, bfloat16=989.4e12, float32=66.9e12, bandwidth=4.8e12),
    # Measured on the project's machines (2 cores with AVX-512): square matrix products in torch of 170 GFLOP/s in fp32
    # and 850 in bf16, and 26 GB/s when it sums 512 MiB.
    Hardware(name="CPU-2-cores", memory=23.5, bfloat16=850e9, float32=170e9, bandwidth=26e9, cpu=True),
)
