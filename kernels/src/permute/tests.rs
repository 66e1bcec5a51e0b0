use super::*;
use crate::testing::{Random, assert_close, wide};

/// All indices of a shape, row-major.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &length in shape {
        let longer = |index: &Vec<usize>| -> Vec<Vec<usize>> { (0..length).map(|i| [&index[..], &[i]].concat()).collect() };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

fn flat(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, n)| at * n + i)
}

fn order(random: &mut Random, rank: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rank).collect();
    (0..rank).map(|_| left.remove(random.below(left.len()))).collect()
}

#[test]
fn axes_change_places() {
    for isa in Isa::available() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let rank = 1 + random.below(5);
            let lengths = [1, 2, 3, 5, 7, 8, 9, 16, 17];
            let mut shape: Vec<usize> = (0..rank).map(|_| lengths[random.below(if rank > 3 { 5 } else { 9 })]).collect();
            if seed % 4 == 0 {
                let axis = random.below(rank);
                shape[axis] = 37;
            }
            let axes = order(&mut random, rank);
            let x = random.values(shape.iter().product());
            let mut y = vec![f32::NAN; x.len()];
            permute(isa, &x, &shape, &axes, &mut y);
            let turned: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
            for index in indices(&turned) {
                let mut of_x = vec![0; rank];
                for (at, &axis) in axes.iter().enumerate() {
                    of_x[axis] = index[at];
                }
                let found = y[flat(&index, &turned)];
                assert_eq!(
                    found,
                    x[flat(&of_x, &shape)],
                    "{isa:?} seed {seed}: {shape:?} {axes:?} at {index:?}"
                );
            }
        }
    }
}

#[test]
fn eight_axes_and_layouts_of_images() {
    let isa = Isa::best();
    let shape = [2, 3, 1, 2, 3, 2, 1, 5];
    let x = Random::new(8).values(360);
    let (axes, back) = ([7, 2, 5, 0, 3, 6, 1, 4], [3, 6, 1, 4, 7, 2, 5, 0]);
    let turned = axes.map(|a| shape[a]);
    let (mut y, mut z) = (vec![0.0; 360], vec![0.0; 360]);
    permute(isa, &x, &shape, &axes, &mut y);
    permute(isa, &y, &turned, &back, &mut z);
    assert_ne!(x, y);
    assert_eq!(x, z);
    to_channels_last(isa, &x, [4, 9, 10], &mut y);
    assert_eq!(y[9 * 10 * 2 + 9 * 3 + 4], x[9 * 10 * 2 + 4 * 10 + 3]);
    to_channels_first(isa, &y, [4, 9, 10], &mut z);
    assert_eq!(x, z);
}

#[test]
fn parts_are_copied_and_added() {
    for isa in Isa::available() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let rank = 1 + random.below(4);
            let whole: Vec<usize> = (0..rank).map(|_| 1 + random.below(20)).collect();
            let (mut starts, mut steps, mut shape) = (Vec::new(), Vec::new(), Vec::new());
            for &length in &whole {
                let start = random.below(length);
                let step: isize = [1, 1, 2, -1, -3][random.below(5)];
                let room = if step > 0 { length - start } else { start + 1 };
                shape.push(1 + random.below(room.div_ceil(step.unsigned_abs())));
                starts.push(start);
                steps.push(step);
            }
            let (part, straight) = (Place::part(&whole, &starts, &steps), Place::whole(&shape));
            let x = random.values(whole.iter().product());
            let mut y = vec![f32::NAN; shape.iter().product()];
            copy(isa, &shape, &x, &part, &mut y, &straight);
            let mut sums = x.clone();
            accumulate(isa, &shape, 0.5, &y, &straight, &mut sums, &part);
            let mut expected = wide(&x);
            for index in indices(&shape) {
                let of_x: Vec<usize> = (0..rank)
                    .map(|a| (starts[a] as isize + steps[a] * index[a] as isize) as usize)
                    .collect();
                let at = flat(&of_x, &whole);
                assert_eq!(y[flat(&index, &shape)], x[at], "{isa:?} seed {seed}: {part:?} of {whole:?}");
                expected[at] *= 1.5;
            }
            assert_close(&sums, &expected, 1e-6, &format!("{isa:?} seed {seed}"));
        }
    }
}

#[test]
fn what_is_repeated_is_summed_again() {
    for isa in Isa::available() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let rank = 1 + random.below(4);
            let large: Vec<usize> = (0..rank).map(|_| [1, 2, 5, 8, 17, 33][random.below(6)]).collect();
            let missing = random.below(rank + 1);
            let small: Vec<usize> = large[missing..].iter().map(|&n| if random.below(2) == 0 { 1 } else { n }).collect();
            let place = |index: &[usize]| {
                let seen: Vec<usize> = index[missing..].iter().zip(&small).map(|(&i, &n)| i.min(n - 1)).collect();
                flat(&seen, &small)
            };
            let (x, g) = (random.values(small.iter().product()), random.values(large.iter().product()));
            let mut y = vec![f32::NAN; g.len()];
            expand(isa, 3.0, &x, &small, &mut y, &large);
            let mut sums = x.clone();
            sum_to(isa, 0.25, &g, &large, &mut sums, &small);
            let mut expected = wide(&x);
            for (at, index) in indices(&large).iter().enumerate() {
                assert_eq!(y[at], 3.0 * x[place(index)], "{isa:?} seed {seed}: {small:?} to {large:?}");
                expected[place(index)] += 0.25 * f64::from(g[at]);
            }
            // Sums over outer axes are rounded at every row.
            let count = (g.len() / x.len()) as f64;
            assert_close(
                &sums,
                &expected,
                1e-6 * count.sqrt(),
                &format!("{isa:?} seed {seed}: {large:?} to {small:?}"),
            );
        }
    }
}

#[test]
fn nothing_is_copied_of_an_empty_tensor() {
    let mut y = [1.0; 2];
    copy(Isa::best(), &[3, 0], &[], &Place::whole(&[3, 0]), &mut y, &Place::whole(&[3, 0]));
    assert_eq!(y, [1.0; 2]);
}

#[test]
#[should_panic(expected = "reaches beyond")]
fn a_part_that_reaches_beyond_its_slice_is_refused() {
    let part = Place::part(&[4, 4], &[2, 1], &[1, 1]);
    copy(Isa::best(), &[3, 3], &[0.0; 16], &part, &mut [0.0; 9], &Place::whole(&[3, 3]));
}

#[test]
#[should_panic(expected = "is no order")]
fn an_order_that_names_an_axis_twice_is_refused() {
    permute(Isa::best(), &[0.0; 4], &[2, 2], &[1, 1], &mut [0.0; 4]);
}
