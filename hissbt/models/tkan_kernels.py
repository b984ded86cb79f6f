"""The two loops over time of a TKAN cell and their gradients on one CPU core, compiled by numba and kept on disk.

``hissbt.models.tkan_scan`` says what they compute, and has the same in torch. Arrays are contiguous and of one
precision. N counts the sequences of all layers that run side by side, those of one layer next to each other.
"""

from hissbt.models.scan_kernels import LOG2_E, entry, exp2, kernel


@kernel
def _squash(x):
    """x <- sigmoid(x)."""
    one, rate = x.dtype.type(1), x.dtype.type(LOG2_E)
    for i in range(len(x)):
        x[i] = one / (one + exp2(-rate * x[i]))


@kernel
def _tanh(x, y):
    """y <- tanh(x)."""
    one, rate = x.dtype.type(1), x.dtype.type(2 * LOG2_E)
    for i in range(len(x)):
        y[i] = (one + one) / (one + exp2(-rate * x[i])) - one


# ------------------------------------------------------------------------------------------------- gates


@entry
def gates_forward(given, opened, recurrent, h, c, gates, cells, hidden):
    """Run given [N,T,3U] with recurrent [C,U,3U]; h and c [N,U] go from the first state to the last."""
    units, group = h.shape[1], len(given) // len(recurrent)
    candidate, curved = h[0].copy(), h[0].copy()
    for n in range(len(given)):
        h_n, c_n, weights = h[n], c[n], recurrent[n // group]
        for t in range(given.shape[1]):
            z = gates[n, t]
            z[:] = given[n, t]
            for u in range(units):
                h_u, row = h_n[u], weights[u]
                for j in range(len(z)):
                    z[j] += h_u * row[j]
            _squash(z)
            _tanh(z[2 * units :], candidate)
            for u in range(units):
                c_n[u] = z[units + u] * c_n[u] + z[u] * candidate[u]
            _tanh(c_n, curved)
            for u in range(units):
                h_n[u] = opened[n, t, u] * curved[u]
            cells[n, t] = c_n
            hidden[n, t] = h_n


@entry
def gates_backward(opened, recurrent, c, gates, cells, grad_hidden, grad_h, grad_c, grad_given, grad_opened):
    """Fill grad_given and grad_opened; c is the first, grad_h and grad_c go from the last state to the first."""
    one, units, group = c.dtype.type(1), c.shape[1], len(c) // len(recurrent)
    candidate, curved = c[0].copy(), c[0].copy()
    for n in range(len(c)):
        grad_h_n, grad_c_n, weights = grad_h[n], grad_c[n], recurrent[n // group]
        for t in range(gates.shape[1] - 1, -1, -1):
            z, grad_z, before = gates[n, t], grad_given[n, t], cells[n, t - 1] if t else c[n]
            _tanh(z[2 * units :], candidate)
            _tanh(cells[n, t], curved)
            for u in range(units):
                g = grad_h_n[u] + grad_hidden[n, t, u]
                grad_opened[n, t, u] = g * curved[u]
                g = grad_c_n[u] + g * opened[n, t, u] * (one - curved[u] * curved[u])
                grad_z[u] = g * candidate[u]
                grad_z[units + u] = g * before[u]
                grad_z[2 * units + u] = g * z[u] * (one - candidate[u] * candidate[u])
                grad_c_n[u] = g * z[units + u]
            for j in range(len(z)):
                grad_z[j] *= z[j] * (one - z[j])
            for u in range(units):
                row, total = weights[u], grad_z.dtype.type(0)
                for j in range(len(z)):
                    total += row[j] * grad_z[j]
                grad_h_n[u] = total


# --------------------------------------------------------------------------------------------- sublayers


@kernel
def _spline(position, center, half, order, factors):
    """Return the cardinal spline of an order and its slope, at a position in intervals."""
    zero = factors.dtype.type(0)
    value, slope = zero, zero
    if order == 0:
        return factors[0] if center - half <= position < center + half else zero, zero
    distance = position - center
    away = abs(distance)
    for m in range(len(factors)):
        rest = half - factors.dtype.type(m) - away
        if rest > zero:
            power = factors[m]
            for _ in range(order - 1):
                power *= rest
            value += power * rest
            slope -= power * factors.dtype.type(order)
    return value, slope if distance > zero else -slope if distance < zero else zero


@kernel
def _normalize(x, eps, normal):
    """normal <- x less its mean, over its deviation; return one over that."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    mean, variance, count = zero, zero, x.dtype.type(len(x))
    for i in range(len(x)):
        mean += x[i]
    mean /= count
    for i in range(len(x)):
        normal[i] = x[i] - mean
        variance += normal[i] * normal[i]
    rate = one / (variance / count + eps) ** x.dtype.type(0.5)
    for i in range(len(x)):
        normal[i] *= rate
    return rate


@entry
def memory_forward(
    given, states, gain, shift, base, bias, spline, new, old, centers, scale, half, order, factors, eps,
    memory, normals, rates, memories, outputs,
):  # fmt: skip
    """Run given [N,T,I]; memory [N,O] goes from the first to the last; keep what ``memory_backward`` reads."""
    group, zero = len(given) // len(states), memory.dtype.type(0)
    x = given[0, 0].copy()
    for n in range(len(given)):
        k, memory_n = n // group, memory[n]
        for t in range(given.shape[1]):
            memories[n, t] = memory_n
            x[:] = given[n, t]
            for o in range(len(memory_n)):
                for i in range(len(x)):
                    x[i] += memory_n[o] * states[k, o, i]
            rates[n, t] = _normalize(x, eps, normals[n, t])
            output = outputs[n, t]
            output[:] = bias[k]
            for i in range(len(x)):
                v = normals[n, t, i] * gain[k, i] + shift[k, i]
                if v > zero:
                    for o in range(len(output)):
                        output[o] += v * base[k, i, o]
                for j in range(len(centers)):
                    value, _ = _spline(v * scale, centers[j], half, order, factors)
                    if value != zero:
                        for o in range(len(output)):
                            output[o] += value * spline[k, i, j, o]
            for o in range(len(output)):
                memory_n[o] = new[k, o] * output[o] + old[k, o] * memory_n[o]


@entry
def memory_backward(
    states, gain, shift, base, spline, new, old, centers, scale, half, order, factors,
    normals, rates, memories, outputs, grad_outputs, grad_memory,
    grad_given, grad_states, grad_gain, grad_shift, grad_base, grad_bias, grad_spline, grad_new, grad_old,
):  # fmt: skip
    """Fill grad_given, add to those of the weights; grad_memory [N,O] goes from the last memory to the first."""
    group, zero = len(outputs) // len(states), outputs.dtype.type(0)
    width, count = normals.shape[2], outputs.dtype.type(normals.shape[2])
    grad_output = new[0].copy()
    for n in range(len(outputs)):
        k, grad_m = n // group, grad_memory[n]
        for t in range(outputs.shape[1] - 1, -1, -1):
            normal, grad_x, memory = normals[n, t], grad_given[n, t], memories[n, t]
            for o in range(len(grad_m)):
                grad_output[o] = grad_outputs[n, t, o] + new[k, o] * grad_m[o]
                grad_new[k, o] += grad_m[o] * outputs[n, t, o]
                grad_old[k, o] += grad_m[o] * memory[o]
                grad_bias[k, o] += grad_output[o]
                grad_m[o] *= old[k, o]
            mean, along = zero, zero
            for i in range(width):
                v, grad_v = normal[i] * gain[k, i] + shift[k, i], zero
                if v > zero:
                    for o in range(len(grad_output)):
                        grad_base[k, i, o] += v * grad_output[o]
                        grad_v += base[k, i, o] * grad_output[o]
                for j in range(len(centers)):
                    value, slope = _spline(v * scale, centers[j], half, order, factors)
                    if value != zero:
                        total = zero
                        for o in range(len(grad_output)):
                            grad_spline[k, i, j, o] += value * grad_output[o]
                            total += spline[k, i, j, o] * grad_output[o]
                        grad_v += total * slope * scale
                grad_gain[k, i] += grad_v * normal[i]
                grad_shift[k, i] += grad_v
                grad_x[i] = grad_v * gain[k, i]
                mean += grad_x[i]
                along += grad_x[i] * normal[i]
            mean /= count
            along /= count
            for i in range(width):
                grad_x[i] = rates[n, t] * (grad_x[i] - mean - normal[i] * along)
            for o in range(len(grad_m)):
                total = zero
                for i in range(width):
                    grad_states[k, o, i] += memory[o] * grad_x[i]
                    total += states[k, o, i] * grad_x[i]
                grad_m[o] += total
