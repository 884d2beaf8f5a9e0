# SPDX-License-Identifier: Apache-2.0
"""Rolling-element bearings and their motors, simulated from their physics, for a demo without any data.

Vibration of a damaged bearing (McFadden & Smith 1984; Antoni & Randall 2003; Randall & Antoni 2011, "Rolling element
bearing diagnostics, a tutorial", MSSP 25): each time a ball passes the defect an impulse excites a structural
resonance,

    x(t) = sum_k A_k exp(-2 pi zeta f_r (t - t_k)) sin(2 pi f_r (t - t_k)),   t >= t_k,

at the ball-pass frequency of the outer or inner race

    BPFO = n/2 f_s (1 - d/D cos(phi)),   BPFI = n/2 f_s (1 + d/D cos(phi)),

with n balls of diameter d on pitch diameter D, contact angle phi and shaft frequency f_s. The intervals jitter by 1 %
(the balls slip). An outer-race defect stays in the load zone; an inner-race defect turns through it once a revolution,
so A_k follows the load there (Stribeck: q = q0 (1 - (1 - cos psi) / (2 epsilon))^1.5 within the zone). Unbalance adds a
sine at f_s growing with f_s^2, every rotor some of it and of 2 f_s (misalignment). Motor current is a constant part
plus one proportional to load torque; bearing temperature follows ambient + R (friction power) as a first-order lag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 2048.0
BLOCK = 512
PIECE_S = 4.0  # of one state
STATES = ("healthy", "outer race", "inner race", "unbalance")
CHANNELS = (("vibration_x", "g"), ("vibration_y", "g"), ("current", "A"), ("temperature", "degC"))
SLIP = 0.01
THERMAL_S = 300.0  # time constant


@dataclass(frozen=True)
class Machine:
    """One site's machine: what differs from plant to plant."""

    name: str
    shaft_hz: float
    balls: int
    ratio: float  # d/D cos(phi)
    resonance_hz: float
    damping: float  # zeta
    noise_g: float
    load: float  # mean, of nominal
    severity: float  # g of an impulse at nominal load

    @property
    def bpfo_hz(self) -> float:
        """Ball-pass frequency, outer race."""
        return self.balls / 2 * self.shaft_hz * (1 - self.ratio)


SITES = (
    Machine("press-shop", 24.6, 8, 0.32, 610.0, 0.05, 0.08, 0.8, 0.95),
    Machine("paint-shop", 29.2, 9, 0.28, 720.0, 0.06, 0.10, 0.6, 0.95),
    Machine("foundry", 19.8, 8, 0.35, 520.0, 0.05, 0.12, 1.0, 0.95),
    Machine("bottling", 33.1, 10, 0.30, 810.0, 0.07, 0.09, 0.7, 0.90),
)


def machines(count: int, seed: int = 0) -> tuple[Machine, ...]:
    """Return the four machines of SITES and, beyond those, others with properties drawn from a slightly wider range."""
    rng, made = np.random.default_rng(seed), list(SITES)
    for k in range(len(SITES), count):
        shaft, resonance = rng.uniform(18, 35), rng.uniform(500, 850)
        balls, ratio, damping = int(rng.integers(8, 11)), rng.uniform(0.27, 0.36), rng.uniform(0.045, 0.075)
        noise, load, severity = rng.uniform(0.07, 0.13), rng.uniform(0.55, 1.05), rng.uniform(0.85, 1.0)
        made.append(Machine(f"machine{k + 1}", shaft, balls, ratio, resonance, damping, noise, load, severity))
    return tuple(made[:count])


def run(machine: Machine, state: int, seed: int, seconds: float = PIECE_S) -> NDArray[np.float32]:
    """Simulate a machine in a state (index into STATES): channels (4, seconds * RATE_HZ)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    shaft = machine.shaft_hz * rng.uniform(0.98, 1.02)
    load = machine.load * rng.uniform(0.85, 1.15) * (1 + 0.05 * np.sin(2 * np.pi * 0.3 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * shaft * t + rng.uniform(0, 2 * np.pi)
    unbalance = (0.55 if state == 3 else 0.12) * (shaft / 25) ** 2
    rotor = unbalance * np.sin(phase) + 0.06 * np.sin(2 * phase + 1)
    x = rotor + rng.normal(0, machine.noise_g, t.size)
    y = 0.8 * np.roll(rotor, round(RATE_HZ / shaft / 4)) + rng.normal(0, machine.noise_g, t.size)
    if state in (1, 2):
        shocks = _impacts(machine, state, shaft, phase, load, rng)
        x, y = x + shocks, y + 0.6 * shocks
    friction = 1 + (0.15 if state in (1, 2) else 0.0)
    current = 2.0 + 3.0 * load * friction + rng.normal(0, 0.15, t.size)
    target = 25 + 20 * machine.load * friction + rng.normal(0, 2)
    start = target + rng.normal(0, 2)
    temperature = target + (start - target) * np.exp(-t / THERMAL_S) + rng.normal(0, 0.1, t.size)
    return np.stack([x, y, current, temperature]).astype(np.float32)


def _impacts(
    machine: Machine,
    state: int,
    shaft: float,
    phase: NDArray[np.float64],
    load: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Resonance that each pass of a ball over the defect excites."""
    n = phase.size
    sign = -1 if state == 1 else 1
    rate = machine.balls / 2 * shaft * (1 + sign * machine.ratio)
    count = int(n / RATE_HZ * rate) + 2
    times = np.cumsum(rng.normal(1 / rate, SLIP / rate, count))
    at = (times * RATE_HZ).astype(np.int64)
    at = at[at < n]
    strength = machine.severity * load[at] * rng.normal(1, 0.1, at.size)
    if state == 2:
        zone = np.maximum(0, 1 - (1 - np.cos(phase[at])) / 1.2) ** 1.5
        strength *= 0.25 + zone
    train = np.zeros(n)
    np.add.at(train, at, strength)
    tail = np.arange(int(0.05 * RATE_HZ)) / RATE_HZ
    ring = np.exp(-2 * np.pi * machine.damping * machine.resonance_hz * tail)
    ring *= np.sin(2 * np.pi * machine.resonance_hz * tail)
    return np.convolve(train, ring)[:n] * 2
