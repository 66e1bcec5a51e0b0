//! The inner loop of all products here: some pixels times some channels, in registers.
//!
//! What the loop must look like (`objdump -d --no-show-raw-insn` of the test binary, around `vfmadd`): a broadcast and `N` products
//! a pixel, pixels addressed as `base`, `base + step`, `base + 2 step` from one pointer for three, no spills. See [`opaque`].

use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::Vector;

/// Vectors of channels that a tile is wide, at most.
pub(super) const WIDTH: usize = 2;
/// Pixels that a tile is high, at most: with 32 registers and with 16.
const HEIGHT: (usize, usize) = (14, 6);

/// Steps that are taken together in what is read and in what is written, in floats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) count: usize,
    pub(super) read: usize,
    pub(super) written: usize,
}

/// What one output value sums over: `rows * columns` runs of `len` floats that follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    pub(super) rows: usize,
    pub(super) row_step: usize,
    pub(super) columns: usize,
    pub(super) column_step: usize,
    pub(super) len: usize,
}

/// What a sum begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Zero,
    /// One value a channel.
    Bias(*const f32),
    /// What stands where the sum goes.
    Written,
}

/// `to[pixel][channel] = start + sum over i of from[pixel][i] * weights[i][channel]`, for pixels along three axes and one panel of channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sweep {
    /// The two outer axes, and the one along which tiles lie.
    pub(super) outer: [Axis; 2],
    pub(super) along: Axis,
    pub(super) runs: Runs,
    pub(super) from: *const f32,
    /// `[rows * columns * len][vectors * LANES]`.
    pub(super) weights: *const f32,
    pub(super) to: *mut f32,
    pub(super) start: Start,
    pub(super) relu: bool,
    /// Vectors of channels, 1 to [`WIDTH`], and channels in the last of them.
    pub(super) vectors: usize,
    pub(super) last: usize,
}

struct Registers;

impl Kernel for Registers {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> usize {
        V::REGISTERS
    }
}

/// Pixels (or other rows) that a tile holds at most.
pub(super) fn height(isa: Isa) -> usize {
    // SAFETY: it asks for nothing.
    if unsafe { dispatch(isa, Registers) } == 32 {
        HEIGHT.0
    } else {
        HEIGHT.1
    }
}

/// `count` as tiles of nearly the same height: how many of one more than the height that follows, how many of that, and the height.
pub(super) fn split(count: usize, highest: usize) -> (usize, usize, usize) {
    let tiles = count.div_ceil(highest);
    let height = count / tiles.max(1);
    let higher = count - height * tiles;
    (higher, tiles - higher, height)
}

/// Runs `$run!(M, N)` with constants for the height and the width that are asked for.
macro_rules! with_size {
    ($height:expr, $width:expr, $run:ident) => {
        match ($height, $width) {
            (1, 1) => $run!(1, 1),
            (2, 1) => $run!(2, 1),
            (3, 1) => $run!(3, 1),
            (4, 1) => $run!(4, 1),
            (5, 1) => $run!(5, 1),
            (6, 1) => $run!(6, 1),
            (7, 1) => $run!(7, 1),
            (8, 1) => $run!(8, 1),
            (9, 1) => $run!(9, 1),
            (10, 1) => $run!(10, 1),
            (11, 1) => $run!(11, 1),
            (12, 1) => $run!(12, 1),
            (13, 1) => $run!(13, 1),
            (14, 1) => $run!(14, 1),
            (1, 2) => $run!(1, 2),
            (2, 2) => $run!(2, 2),
            (3, 2) => $run!(3, 2),
            (4, 2) => $run!(4, 2),
            (5, 2) => $run!(5, 2),
            (6, 2) => $run!(6, 2),
            (7, 2) => $run!(7, 2),
            (8, 2) => $run!(8, 2),
            (9, 2) => $run!(9, 2),
            (10, 2) => $run!(10, 2),
            (11, 2) => $run!(11, 2),
            (12, 2) => $run!(12, 2),
            (13, 2) => $run!(13, 2),
            (14, 2) => $run!(14, 2),
            (height, width) => unreachable!("no tile of {height} times {width}"),
        }
    };
}
pub(super) use with_size;

/// # Safety
/// Everything that the axes, the runs and the panel reach from the three pointers may be read, and at `to` written.
pub(super) unsafe fn sweep(isa: Isa, sweep: &Sweep) {
    // Rows a page apart share a set of the first cache, which holds 12 of them or fewer.
    let crowded = (sweep.along.read * size_of::<f32>()).is_multiple_of(4096);
    let highest = if crowded { height(isa).min(8) } else { height(isa) };
    let (higher, rest, low) = split(sweep.along.count, highest);
    for (first, tiles, height) in [(0, higher, low + 1), (higher * (low + 1), rest, low)] {
        if tiles == 0 {
            continue;
        }
        macro_rules! run {
            ($m:literal, $n:literal) => {
                dispatch(isa, Tiles::<$m, $n> { sweep, first, tiles })
            };
        }
        with_size!(height, sweep.vectors, run);
    }
}

/// Those tiles of a sweep that are `M` pixels high.
struct Tiles<'a, const M: usize, const N: usize> {
    sweep: &'a Sweep,
    /// The first pixel along.
    first: usize,
    tiles: usize,
}

impl<const M: usize, const N: usize> Kernel for Tiles<'_, M, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        if M > HEIGHT.1 && V::REGISTERS < 32 {
            unreachable!("no such tile with {} registers", V::REGISTERS);
        }
        let sweep = self.sweep;
        let [images, rows] = sweep.outer;
        for image in 0..images.count {
            for row in 0..rows.count {
                let read = image * images.read + row * rows.read + self.first * sweep.along.read;
                let written = image * images.written + row * rows.written + self.first * sweep.along.written;
                for tile in 0..self.tiles {
                    let from = sweep.from.add(read + tile * M * sweep.along.read);
                    let to = sweep.to.add(written + tile * M * sweep.along.written);
                    product::<V, M, N>(sweep, from, to);
                }
            }
        }
    }
}

/// The pointer, as if it came from elsewhere: without this the compiler keeps a pointer for each of 14 pixels, more than there are
/// registers, instead of one for three.
#[inline(always)]
unsafe fn opaque(pointer: *const f32) -> *const f32 {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let mut address = pointer.addr();
        std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        pointer.with_addr(address)
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    pointer
}

#[inline(always)]
unsafe fn load<V: Vector>(at: *const f32, n: usize) -> V {
    if n == V::LANES { V::load(at) } else { V::load_n(at, n) }
}

/// One tile.
#[inline(always)]
unsafe fn product<V: Vector, const M: usize, const N: usize>(sweep: &Sweep, from: *const f32, to: *mut f32) {
    let mut sums = [[V::splat(0.0); N]; M];
    match sweep.start {
        Start::Zero => {}
        Start::Bias(bias) => {
            let mut values = [V::splat(0.0); N];
            for j in 0..N {
                values[j] = load::<V>(bias.add(j * V::LANES), if j + 1 == N { sweep.last } else { V::LANES });
            }
            sums = [values; M];
        }
        Start::Written => {
            unrolled!(I < M, {
                for j in 0..N {
                    let at = to.add(I * sweep.along.written + j * V::LANES);
                    sums[I][j] = load::<V>(at, if j + 1 == N { sweep.last } else { V::LANES });
                }
            });
        }
    }
    let step = sweep.along.read;
    let runs = sweep.runs;
    let mut weights = sweep.weights;
    for row in 0..runs.rows {
        for column in 0..runs.columns {
            let run = from.add(row * runs.row_step + column * runs.column_step);
            // As many as the loop is written out for; five are used.
            let mut threes = [run; 25];
            unrolled!(I < M.div_ceil(3), {
                threes[I] = opaque(run.wrapping_add(3 * I * step));
            });
            for _ in 0..runs.len {
                let mut w = [V::splat(0.0); N];
                for j in 0..N {
                    w[j] = V::load(weights.add(j * V::LANES));
                }
                unrolled!(I < M, {
                    let x = V::splat(*threes[I / 3].add(I % 3 * step));
                    for j in 0..N {
                        sums[I][j] = x.fma(w[j], sums[I][j]);
                    }
                });
                weights = weights.add(N * V::LANES);
                unrolled!(I < M.div_ceil(3), {
                    threes[I] = threes[I].wrapping_add(1);
                });
            }
        }
    }
    unrolled!(I < M, {
        for j in 0..N {
            // In this order a NaN stays one.
            let value = if sweep.relu { V::splat(0.0).max(sums[I][j]) } else { sums[I][j] };
            let at = to.add(I * sweep.along.written + j * V::LANES);
            if j + 1 < N || sweep.last == V::LANES {
                value.store(at);
            } else {
                value.store_n(at, sweep.last);
            }
        }
    });
}
