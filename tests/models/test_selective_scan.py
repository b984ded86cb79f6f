"""The selective scan: against its definition, the compiled one against torch's, and both against differences."""

import subprocess
import sys

import pytest
import torch

from hissbt.models.selective_scan import CHUNK, CompiledScan, TorchScan, selective_scan

SCANS = [CompiledScan, TorchScan]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3]


def make_inputs(batch, length, channels=7, d_state=3, dtype=torch.float64, seed=0):
    """Return x, dt, a, b, c, d: step sizes from nearly nothing to a whole forgetting."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = normal(batch, length, channels).exp() * 0.1
    a = -normal(d_state, channels).exp()
    inputs = [normal(batch, length, channels), dt, a]
    inputs += [normal(batch, length, d_state), normal(batch, length, d_state), normal(channels)]
    return [z.to(dtype) for z in inputs]


def run(scan, inputs):
    """Return y, the last state, and the gradient of a function of both with respect to each input."""
    inputs = [z.detach().requires_grad_() for z in inputs]
    y, h = scan(*inputs)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(y.dtype)
    gradients = torch.autograd.grad((weights * y).sum() + h.square().sum(), inputs)
    return [y.detach(), h.detach(), *gradients]


def assert_near(results, expected, tolerance):
    """Every tensor is within tolerance of the expected one, in units of its largest number."""
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        assert (result - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1)


def assert_same_bits(results, expected):
    assert all(torch.equal(result, wanted) for result, wanted in zip(results, expected, strict=True))


@pytest.mark.parametrize("scan", SCANS)
def test_the_scan_is_the_recurrence(scan):
    inputs = make_inputs(batch=2, length=40)
    x, dt, a, b, c, d = inputs
    y, last = scan.apply(*inputs)
    h = torch.zeros_like(last)
    for t in range(40):
        decay = torch.exp(dt[:, t, None] * a)  # [B,N,E]
        h = decay * h + (dt * x)[:, t, None] * b[:, t, :, None]
        torch.testing.assert_close(y[:, t], (h * c[:, t, :, None]).sum(1) + d * x[:, t], atol=1e-12, rtol=0)
    torch.testing.assert_close(last, h, atol=1e-12, rtol=0)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_gradient_is_that_of_finite_differences(scan, length):
    inputs = [z.requires_grad_() for z in make_inputs(batch=2, length=length, channels=2, d_state=2)]
    assert torch.autograd.gradcheck(scan.apply, inputs)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_compiled_equals_torch_at_every_length(dtype, batch):
    for length in range(1, 41):
        inputs = make_inputs(batch, length, dtype=dtype, seed=length)
        assert_near(run(CompiledScan.apply, inputs), run(TorchScan.apply, inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("channels", "d_state"), [(1, 1), (8, 1), (33, 5), (128, 16)])
def test_compiled_equals_torch_at_every_width(dtype, channels, d_state):
    inputs = make_inputs(2, 50, channels, d_state, dtype)
    assert_near(run(CompiledScan.apply, inputs), run(TorchScan.apply, inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_small_decays_are_kept_as_well_as_in_torch(dtype):
    """With steps of 1e-4 a memory of 10,000 bars lives off the last digits of exp(dt A)."""
    inputs = make_inputs(1, 2000, dtype=torch.float64)
    inputs[1] = torch.full_like(inputs[1], 1e-4)
    exact = run(TorchScan.apply, inputs)
    inputs = [z.to(dtype) for z in inputs]
    assert_near(run(CompiledScan.apply, inputs), exact, 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_memory_layout_does_not_matter(dtype):
    inputs = make_inputs(2, 21, dtype=dtype)
    x, dt, a, b, c, d = inputs
    both = torch.cat([b, c], dim=-1)
    scattered = [x.permute(2, 1, 0).contiguous().permute(2, 1, 0), dt.mT.contiguous().mT, a.T.contiguous().T]
    scattered += [*both.split(b.shape[-1], dim=-1), torch.stack([d, d], dim=-1)[:, 0]]
    assert not any(z.is_contiguous() for z in scattered)
    assert_same_bits(run(CompiledScan.apply, scattered), run(CompiledScan.apply, inputs))
    assert_near(run(TorchScan.apply, scattered), run(TorchScan.apply, inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("scan", SCANS)
def test_gradients_that_are_one_number_repeated_are_read_right(scan):
    """The gradient of a sum arrives with strides of zero."""
    inputs = [z.requires_grad_() for z in make_inputs(2, 20)]
    y, h = scan.apply(*inputs)
    ones = [torch.ones_like(y), torch.ones_like(h)]
    of_sums = torch.autograd.grad([y.sum(), h.sum()], inputs, retain_graph=True)
    of_ones = torch.autograd.grad([y, h], inputs, ones, retain_graph=True)
    assert_same_bits(of_sums, of_ones)
    assert_same_bits(torch.autograd.grad([y, h], inputs, ones), of_ones)  # backward wrote to nothing it was given


@pytest.mark.parametrize("scan", SCANS)
def test_either_output_may_have_no_gradient(scan):
    inputs = [z.requires_grad_() for z in make_inputs(2, 20)]
    y, h = scan.apply(*inputs)
    zeros = [torch.zeros_like(y), torch.zeros_like(h)]
    for used, given in ((y, [torch.ones_like(y), zeros[1]]), (h, [zeros[0], torch.ones_like(h)])):
        alone = torch.autograd.grad(used.sum(), inputs, retain_graph=True)
        assert_same_bits(alone, torch.autograd.grad([y, h], inputs, given, retain_graph=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_large_steps_forget_and_stay_finite(dtype):
    inputs = make_inputs(2, 50, dtype=dtype)
    inputs[1] *= torch.logspace(-6, 6, 50, dtype=dtype)[:, None]
    results = run(CompiledScan.apply, inputs)
    assert all(torch.isfinite(z).all() for z in results)
    assert_near(results, run(TorchScan.apply, inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("which", range(6))
def test_a_nan_is_never_hidden(dtype, which):
    inputs = make_inputs(2, 20, channels=40, dtype=dtype)
    inputs[which].view(-1)[3] = torch.nan
    y, _ = CompiledScan.apply(*inputs)
    assert torch.equal(y.isnan(), TorchScan.apply(*inputs)[0].isnan())
    assert y.isnan().any()


@pytest.mark.parametrize("scan", SCANS)
def test_a_second_derivative_is_refused(scan):
    inputs = [z.requires_grad_() for z in make_inputs(1, 5)]
    y, _ = scan.apply(*inputs)
    (gradient,) = torch.autograd.grad(y.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_same_bits_come_on_every_call_and_number_of_threads():
    inputs, threads = make_inputs(4, 200, 64, 16, torch.float32), torch.get_num_threads()
    first = run(CompiledScan.apply, inputs)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert_same_bits(run(CompiledScan.apply, inputs), first)
    finally:
        torch.set_num_threads(threads)


def test_a_sequence_is_scanned_alike_whatever_lies_beside_it():
    x, dt, a, b, c, d = make_inputs(3, 50, 64, 16, torch.float32)
    y, h = selective_scan(x, dt, a, b, c, d)
    alone, last = selective_scan(x[1:2], dt[1:2], a, b[1:2], c[1:2], d)
    assert_same_bits([alone[0], last[0]], [y[1], h[1]])


@pytest.mark.parametrize(
    ("dtype", "device", "scan"),
    [
        (torch.float32, "cpu", "CompiledScan"),
        (torch.float64, "cpu", "CompiledScan"),
        (torch.bfloat16, "cpu", "TorchScan"),
        (torch.float32, "meta", "TorchScan"),
    ],
)
def test_the_compiled_scan_runs_where_it_can(dtype, device, scan):
    inputs = [z.to(device, dtype).requires_grad_() for z in make_inputs(2, 20)]
    y, h = selective_scan(*inputs)
    assert type(y.grad_fn).__name__ == f"{scan}Backward"
    assert y.shape == inputs[0].shape
    assert h.shape == (2, *inputs[2].shape)
    y.sum().backward()
    assert all(z.grad.shape == z.shape for z in inputs)


def test_networks_are_imported_without_numba():
    command = "import sys, hissbt.models; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
