"""The gated delta rule (Yang, Kautz and Hatamizadeh 2024), token by token and in chunks.

Each head keeps a state S (key width x value width), which fades and learns that k gives v:

    S_t = a_t (S_{t-1} - b_t k_t (k_t^T S_{t-1})) + b_t k_t v_t^T,        o_t = S_t^T q_t

In a chunk of C tokens the corrections depend on each other as a unit lower triangular system (the WY form), which is
solved at once; only the state goes from chunk to chunk. A piece of a document begins with a state of zero.

Shapes: B rows, H heads, T positions, K width of keys and queries, V of values; `log_decay` (log a) and `rate` (b) are
(B, H, T), `positions` (B, T) from 0 in each piece.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64


def delta_rule_by_token(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, positions: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return outputs (B, H, T, V) and the last state (B, H, K, V), as the rule is written."""
    rows, heads, length, width = k.shape
    state = k.new_zeros(rows, heads, width, v.shape[-1]) if state is None else state
    outputs = []
    for t in range(length):
        begins = (positions[:, t] == 0)[:, None, None, None]
        state = torch.where(begins, torch.zeros_like(state), state) * log_decay[:, :, t, None, None].exp()
        key, value = k[:, :, t], v[:, :, t]
        held = torch.einsum("bhk,bhkv->bhv", key, state)
        state = state + torch.einsum("bhk,bhv->bhkv", key, rate[:, :, t, None] * (value - held))
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t], state))
    return torch.stack(outputs, dim=2), state


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, positions: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Return outputs (B, H, T, V), a chunk at a time; computed in float32."""
    length = q.shape[2]
    chunk = min(chunk, length)
    padding = -length % chunk
    q, k, v, log_decay, rate = (_chunks(x.float(), padding, chunk) for x in (q, k, v, log_decay, rate))
    places = F.pad(positions, (0, padding)).view(len(positions), 1, -1, chunk)
    number = torch.arange(chunk, device=q.device)
    # Pairs (i, j <= i) of one piece, and whether the piece began before the chunk, so that the old state is its own.
    together = (number[:, None] - number[None, :] <= places[..., None]) & (number[:, None] >= number[None, :])
    goes_on = (places > number).float()
    sums = log_decay.cumsum(dim=-1)
    fades = torch.where(together, sums[..., :, None] - sums[..., None, :], -torch.inf).exp()
    since_begin = sums.exp() * goes_on
    until_end = fades[..., -1, :]
    corrected = k * rate[..., None]
    system = torch.tril((corrected @ k.transpose(-1, -2)) * fades, diagonal=-1)
    right = torch.cat((v * rate[..., None], corrected * since_begin[..., None]), dim=-1)
    solved = torch.linalg.solve_triangular(
        system + torch.eye(chunk, device=q.device), right, upper=False, unitriangular=True
    )
    news, of_state = solved.split((v.shape[-1], k.shape[-1]), dim=-1)
    within = (q @ k.transpose(-1, -2)) * fades
    reads, writes = q * since_begin[..., None], (k * until_end[..., None]).transpose(-1, -2)
    state = q.new_zeros(*q.shape[:2], k.shape[-1], v.shape[-1])
    outputs = []
    for part in range(q.shape[2]):
        learned = news[:, :, part] - of_state[:, :, part] @ state
        outputs.append(reads[:, :, part] @ state + within[:, :, part] @ learned)
        state = state * since_begin[:, :, part, -1, None, None] + writes[:, :, part] @ learned
    return torch.cat(outputs, dim=2)[:, :, :length]


def _chunks(x: Tensor, padding: int, chunk: int) -> Tensor:
    """Return (B, H, T, ...) as (B, H, chunks, C, ...), zeros at the end."""
    if padding:
        x = torch.cat((x, x.new_zeros(*x.shape[:2], padding, *x.shape[3:])), dim=2)
    return x.reshape(*x.shape[:2], -1, chunk, *x.shape[3:])
