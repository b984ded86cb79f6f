"""State-space layers: S4D and Mamba mixers, and the pre-norm residual block around them.

Both mixers map a sequence to a sequence of the same shape and come in two forms that agree: ``forward`` runs
the whole sequence at once, ``step`` runs one bar with carried state. Each class has

    forward(x: [B,T,H]) -> y: [B,T,H]
    prefill(x: [B,T,H]) -> (y, state after the last bar), from the zero state; no bars give the initial state
    initial_state(batch) -> state
    step(x: [B,H], state) -> (y: [B,H], new state), functional: the given state is never written to

Letters: B batch, T bars, H channels (d_model), E inner channels (expand * d_model), N state size (d_state),
P = N/2 complex conjugate pairs, K convolution width, R rank of the step-size projection.

S4D: Gu, Goel, Gupta, Ré, "On the Parameterization and Initialization of Diagonal State Space Models", 2022
(arXiv 2206.11893); parameter names as in ``models/s4/s4d.py`` of github.com/state-spaces/s4.
Mamba: Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023 (arXiv 2312.00752);
parameter names as in ``mamba_ssm/modules/mamba_simple.py`` of github.com/state-spaces/mamba.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hissbt.errors import ConfigError
from hissbt.models.selective_scan import selective_scan

S4D_INITS = ("lin", "inv", "legs", "real")
DISCRETIZATIONS = ("zoh", "bilinear")
DT_MIN, DT_MAX = 0.001, 0.1  # range of the step sizes at initialization, in bars


# ------------------------------------------------------------------------------------------------- S4D


def hippo_legs_diagonal(d_state: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues A [P] and input weights B [P] of the normal part of HiPPO-LegS, imaginary parts >= 0.

    HiPPO-LegS is a normal matrix minus P P^T with P_n = sqrt(n + 1/2); S4D-LegS keeps the normal part
    (arXiv 2206.11893, section 4). B is the HiPPO input vector in the eigenbasis with its modulus
    clipped at 2, as the official code tames the few large entries; eigenvectors have no natural phase, and
    neither has the random C that B is multiplied with.
    """
    n = torch.arange(d_state, dtype=torch.float64)
    b = torch.sqrt(2 * n + 1)
    lower = torch.tril(b[:, None] * b[None, :], diagonal=-1)
    normal = -lower - torch.diag(n + 1) + b[:, None] * b[None, :] / 2  # = skew-symmetric - I/2
    skew = normal + torch.eye(d_state, dtype=torch.float64) / 2
    frequency, vectors = torch.linalg.eigh(-1j * skew)  # ascending: the upper half is the positive half
    frequency, vectors = frequency[d_state // 2 :], vectors[:, d_state // 2 :]
    weight = vectors.conj().T @ b.to(vectors.dtype)
    weight = weight * (2 / weight.abs()).clamp(max=1)
    return torch.complex(torch.full_like(frequency, -0.5), frequency), weight


def s4d_diagonal(init: str, d_state: int) -> tuple[Tensor, Tensor]:
    """Return the initial diagonal A [P] and input weights B [P], complex128 (arXiv 2206.11893, section 4)."""
    n = torch.arange(d_state // 2, dtype=torch.float64)
    half = torch.full_like(n, -0.5)
    if init == "legs":
        return hippo_legs_diagonal(d_state)
    if init == "lin":
        a = torch.complex(half, math.pi * n)
    elif init == "inv":
        a = torch.complex(half, d_state / math.pi * (d_state / (2 * n + 1) - 1))
    elif init == "real":
        a = torch.complex(-(n + 1), torch.zeros_like(n))
    else:
        raise ConfigError(f"unknown S4D initialization {init!r}: choose one of {', '.join(S4D_INITS)}")
    return a, torch.ones_like(a)


def powers(base: Tensor, count: int) -> Tensor:
    """Return base^0 .. base^(count-1) along a new last axis, by repeated doubling."""
    result = torch.ones_like(base)[..., None]
    while result.shape[-1] < count:
        result = torch.cat([result, result * base[..., None]], dim=-1)
        base = base * base
    return result[..., :count]


class S4DKernel(nn.Module):
    """The diagonal state-space system h[t] = A h[t-1] + B u[t], y[t] = 2 Re(C h[t]), one per channel.

    B is 1 and therefore folded into C. The discretization is worked out in double precision and rounded once
    to the network's own; the convolution kernel is then made of exact powers of the *rounded* A, which is what
    the recurrence multiplies by. (Kernel entries as exp(l * dt * A) in single precision would be off by the
    rounding of a phase of thousands of radians, and forward and step would drift apart.)
    """

    def __init__(self, d_model: int, d_state: int = 64, init: str = "lin", discretization: str = "zoh"):
        super().__init__()
        if d_state < 2 or d_state % 2:
            raise ConfigError(f"d_state of an S4D layer is {d_state}: choose an even number, at least 2")
        if discretization not in DISCRETIZATIONS:
            choices = ", ".join(DISCRETIZATIONS)
            raise ConfigError(f"unknown discretization {discretization!r}: choose one of {choices}")
        self.discretization = discretization
        a, b = s4d_diagonal(init, d_state)
        a, b = a.expand(d_model, -1), b.expand(d_model, -1)  # [H,P]
        c = torch.randn(d_model, d_state // 2, dtype=torch.complex64) * b.to(torch.complex64)
        log_dt = math.log(DT_MIN) + torch.rand(d_model) * math.log(DT_MAX / DT_MIN)
        self.C = nn.Parameter(torch.view_as_real(c).contiguous())  # [H,P,2]
        self.log_dt = nn.Parameter(log_dt)  # [H]
        self.log_A_real = nn.Parameter(torch.log(-a.real).float())  # [H,P]
        self.A_imag = nn.Parameter(a.imag.float().contiguous())  # [H,P]

    def discretize(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return A, B, C of the recurrence, complex [H,P] at the net's precision (section 3.1)."""
        dt = torch.exp(self.log_dt.double())[:, None]  # [H,1]
        a = torch.complex(-torch.exp(self.log_A_real.double()), self.A_imag.double())  # [H,P]
        if self.discretization == "zoh":
            a_bar = torch.exp(dt * a)
            b_bar = (a_bar - 1) / a
        else:
            a_bar = (1 + dt * a / 2) / (1 - dt * a / 2)
            b_bar = dt / (1 - dt * a / 2)
        c = torch.view_as_complex(self.C)
        return a_bar.to(c.dtype), b_bar.to(c.dtype), c

    def forward(self, length: int) -> Tensor:
        """Return the convolution kernel K[l] = 2 Re(sum_p C B A^l), [H, length], in double precision."""
        a, b, c = (z.to(torch.complex128) for z in self.discretize())
        fine, coarse = self._split_powers(a, length)  # [H,P,m], [H,P,g]
        kernel = torch.einsum("hpg,hpm->hgm", (c * b)[..., None] * coarse, fine)  # [H,g,m]
        return 2 * kernel.real.flatten(1)[:, :length]

    def final_state(self, u: Tensor) -> Tensor:
        """Return h after the last bar of u [B,H,T], started from zero, as [B,H,P,2]."""
        a, b, _ = (z.to(torch.complex128) for z in self.discretize())
        fine, coarse = self._split_powers(a, u.shape[-1])  # [H,P,m], [H,P,g]
        m, g = fine.shape[-1], coarse.shape[-1]
        u = F.pad(u.double(), (m * g - u.shape[-1], 0)).unflatten(-1, (g, m)).to(a.dtype)  # [B,H,g,m]
        h = torch.einsum("bhgm,hpm->bhpg", u, fine.flip(-1))  # [B,H,P,g]
        h = torch.einsum("bhpg,hpg->bhp", h, coarse.flip(-1)) * b  # [B,H,P]
        return torch.view_as_real(h).to(self.C.dtype)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance by one bar: u [B,H], state [B,H,P,2] -> y [B,H], new state."""
        a, b, c = self.discretize()
        h = a * torch.view_as_complex(state) + b * u[..., None]  # [B,H,P]
        return 2 * (c * h).sum(-1).real, torch.view_as_real(h)

    @staticmethod
    def _split_powers(a: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return powers 0..m-1 and 0, m, 2m.. of a: their products are all of 0..length-1 and more."""
        m = math.ceil(math.sqrt(length))
        fine = powers(a, m)
        return fine, powers(fine[..., -1] * a, math.ceil(length / m))


def fft_length(count: int) -> int:
    """Return the least of 4, 5, 6 or 7 times a power of two that holds count bars: a length with a fast FFT."""
    return min(factor << (-(-count // factor) - 1).bit_length() for factor in (4, 5, 6, 7))


class CausalConvolution(torch.autograd.Function):
    """y[t] = sum_l k[l] x[t-l] by real FFTs, padded so that nothing wraps around: x, y [B,T,H], kernel [H,T].

    Its gradients are correlations and again take real FFTs only, where those of torch's own take complex ones.
    """

    @staticmethod
    def forward(ctx, x, kernel):
        """Convolve; keep both spectra."""
        ctx.n = fft_length(2 * x.shape[1] - 1)
        spectrum, response = torch.fft.rfft(x.mT, ctx.n), torch.fft.rfft(kernel, ctx.n)  # [B,H,F], [H,F]
        ctx.save_for_backward(spectrum, response)
        return torch.fft.irfft(spectrum * response, ctx.n)[..., : x.shape[1]].mT.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y):
        """Correlate with the kernel for the gradient of x, with x for that of the kernel."""
        (spectrum, response), length = ctx.saved_tensors, grad_y.shape[1]
        grad = torch.fft.rfft(grad_y.mT, ctx.n)  # [B,H,F]
        grad_x = torch.fft.irfft(grad * response.conj(), ctx.n)[..., :length].mT.contiguous()
        grad_kernel = torch.fft.irfft((grad * spectrum.conj()).sum(0), ctx.n)[..., :length]
        return grad_x, grad_kernel


class S4D(nn.Module):
    """S4D mixer: diagonal state-space convolution, D skip, GELU, then a gated linear unit over channels.

    Args:
        d_model: channels H.
        d_state: real state size N; N/2 conjugate pairs are kept.
        init: ``lin``, ``inv``, ``legs`` or ``real`` (arXiv 2206.11893, section 4).
        discretization: ``zoh`` or ``bilinear``.

    State: [B,H,P,2], the complex h of the kernel as real and imaginary part.
    """

    def __init__(self, d_model: int, d_state: int = 64, init: str = "lin", discretization: str = "zoh"):
        super().__init__()
        self.kernel = S4DKernel(d_model, d_state, init, discretization)
        self.D = nn.Parameter(torch.randn(d_model))
        self.output_linear = nn.Sequential(nn.Conv1d(d_model, 2 * d_model, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        """Mix a whole sequence x [B,T,H]."""
        if x.shape[1] == 0:
            return x
        return self._output(CausalConvolution.apply(x, self.kernel(x.shape[1]).to(x.dtype)), x)

    def prefill(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a whole sequence and return (y [B,T,H], state after its last bar)."""
        if x.shape[1] == 0:
            return x, self.initial_state(x.shape[0])
        return self(x), self.kernel.final_state(x.transpose(1, 2))

    def initial_state(self, batch: int) -> Tensor:
        """Return the zero state [B,H,P,2]."""
        return self.D.new_zeros(batch, *self.kernel.C.shape)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mix one bar: x [B,H], state -> y [B,H], new state."""
        y, state = self.kernel.step(x, state)
        return self._output(y, x), state

    def _output(self, y: Tensor, x: Tensor) -> Tensor:
        """Skip, activation and channel mixing, on [..,H]: a convolution of width 1 is a linear map of channels."""
        mix = self.output_linear[0]
        return F.glu(F.linear(F.gelu(y + self.D * x), mix.weight[..., 0], mix.bias), dim=-1)


# ----------------------------------------------------------------------------------------------- Mamba


class Mamba(nn.Module):
    """Mamba mixer (arXiv 2312.00752, figure 3 and algorithm 2; ``mamba_simple.Mamba``).

    Args:
        d_model: channels H.
        d_state: state size N per inner channel.
        expand: inner channels E = expand * H.
        d_conv: width K of the short causal convolution.

    State: (the last K-1 inputs of the convolution [B,E,K-1], h [B,E,N]).
    """

    def __init__(self, d_model: int, d_state: int = 16, expand: int = 2, d_conv: int = 4):
        super().__init__()
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.d_state, self.rank = d_state, rank
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(inner, 1))  # S4D-Real
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._reset_step_size()

    @torch.no_grad()
    def _reset_step_size(self) -> None:
        """Draw step sizes log-uniformly (section 3.6): the bias is their inverse softplus."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        dt = torch.exp(math.log(DT_MIN) + torch.rand_like(self.dt_proj.bias) * math.log(DT_MAX / DT_MIN))
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Tensor) -> Tensor:
        """Mix a whole sequence x [B,T,H]."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Mix a whole sequence and return (y [B,T,H], state after its last bar)."""
        batch, length, _ = x.shape
        if length == 0:
            return x, self.initial_state(batch)
        raw, gate = self.in_proj(x).chunk(2, dim=-1)  # [B,T,E] each
        conv, inner = self.conv1d, raw.shape[-1]
        padded = F.pad(raw.transpose(1, 2), (conv.kernel_size[0] - 1, 0))  # [B,E,K-1+T]
        u = F.conv1d(padded, conv.weight, conv.bias, groups=inner)  # [B,E,T]
        u = F.silu(u.transpose(1, 2).contiguous())  # [B,T,E]
        dt, b, c = self._selection(u)
        y, h = selective_scan(u, dt, -torch.exp(self.A_log).T, b, c, self.D)  # [B,T,E], [B,N,E]
        return self.out_proj(y * F.silu(gate)), (padded[..., length:], h.mT)

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return the zero state ([B,E,K-1], [B,E,N])."""
        inner, _, width = self.conv1d.weight.shape
        return self.D.new_zeros(batch, inner, width - 1), self.D.new_zeros(batch, inner, self.d_state)

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Mix one bar: x [B,H], state -> y [B,H], new state."""
        recent, h = state
        raw, gate = self.in_proj(x).chunk(2, dim=-1)  # [B,E] each
        window = torch.cat([recent, raw[..., None]], dim=-1)  # [B,E,K]
        u = F.silu((window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)  # [B,E]
        dt, b, c = self._selection(u)
        h = torch.exp(dt[..., None] * -torch.exp(self.A_log)) * h + (dt * u)[..., None] * b[:, None, :]  # [B,E,N]
        y = ((h * c[:, None, :]).sum(-1) + self.D * u) * F.silu(gate)  # [B,E]
        return self.out_proj(y), (window[..., 1:], h)

    def _selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input-dependent step size dt [..,E], input weights b [..,N] and output weights c [..,N]."""
        dt, b, c = self.x_proj(u).split([self.rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(dt)), b, c


# ------------------------------------------------------------------------------------------------ block


class ResidualBlock(nn.Module):
    """Pre-norm residual block: x + dropout(mixer(norm(x))). Its state is the mixer's."""

    def __init__(self, d_model: int, mixer: S4D | Mamba, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run a whole sequence x [B,T,H]."""
        return x + self.dropout(self.mixer(self.norm(x)))

    def prefill(self, x: Tensor) -> tuple:
        """Run a whole sequence and return (y [B,T,H], state after its last bar)."""
        y, state = self.mixer.prefill(self.norm(x))
        return x + self.dropout(y), state

    def initial_state(self, batch: int):
        """Return the mixer's zero state."""
        return self.mixer.initial_state(batch)

    def step(self, x: Tensor, state) -> tuple:
        """Run one bar: x [B,H], state -> y [B,H], new state."""
        y, state = self.mixer.step(self.norm(x), state)
        return x + self.dropout(y), state
