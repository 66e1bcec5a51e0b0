//! Every instruction set against plain arithmetic, lane by lane.

use super::Vector;
use crate::isa::{Isa, Kernel, dispatch};

/// All functions on two rows of 16 values, one result after the other.
struct All<'a>(&'a [f32; 16], &'a [f32; 16]);

impl Kernel for All<'_> {
    type Output = Vec<(&'static str, Vec<f32>)>;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Self::Output {
        let mut found = Vec::new();
        let mut each = |name, f: &dyn Fn(V, V) -> V| {
            let mut row = vec![0.0; 16];
            for at in (0..16).step_by(V::LANES) {
                f(V::load(self.0.as_ptr().add(at)), V::load(self.1.as_ptr().add(at))).store(row.as_mut_ptr().add(at));
            }
            found.push((name, row));
        };
        each("add", &|a, b| a.add(b));
        each("sub", &|a, b| a.sub(b));
        each("mul", &|a, b| a.mul(b));
        each("div", &|a, b| a.div(b));
        each("fma", &|a, b| a.fma(b, V::splat(2.0)));
        each("max", &|a, b| a.max(b));
        each("min", &|a, b| a.min(b));
        each("sqrt", &|_, b| b.sqrt());
        each("abs", &|a, _| a.abs());
        each("round", &|a, _| a.round());
        each("exp2", &|a, _| a.round().exp2_of_integer());
        each("integer", &|a, _| a.integer_and_power(V::splat(1.37)).0);
        each("power", &|a, _| a.integer_and_power(V::splat(1.37)).1);
        each("mantissa", &|_, b| b.mantissa_and_exponent().0);
        each("exponent", &|_, b| b.mantissa_and_exponent().1);
        each("gt", &|a, b| a.keep(a.gt(b)));
        each("eq", &|a, b| V::splat(1.0).select(a.eq(b), b));
        each("gt or nan", &|a, b| {
            let not_a_number = V::splat(f32::NAN).select(a.gt(V::splat(9.0)), a);
            V::splat(1.0).keep(not_a_number.gt_or_nan(b))
        });
        each("wide", &|a, b| {
            V::splat(V::sum_wide(a.fma_wide(b, a.fma_wide(a, V::wide_zero()))) as f32)
        });
        each("evens", &|a, b| a.evens(b));
        each("zip evens", &|a, b| a.zip(b).0.evens(a.zip(b).1));
        each("zip", &|a, b| a.zip(b).1);
        each("sum", &|a, _| V::splat(a.sum()));
        each("largest", &|a, _| V::splat(a.largest()));
        let square: Vec<f32> = (0..20 * 20).map(|i| i as f32).collect();
        for rows in 1..=V::LANES {
            for columns in 1..=V::LANES {
                let mut turned = vec![-1.0; 18 * 18];
                V::transpose(square.as_ptr(), 20, rows, columns, turned.as_mut_ptr(), 18);
                for (at, found) in turned.into_iter().enumerate() {
                    let (row, column) = (at % 18, at / 18);
                    let inside = row < rows && column < columns;
                    assert_eq!(found, if inside { (row * 20 + column) as f32 } else { -1.0 }, "{rows} x {columns}");
                }
            }
        }
        let mut partial = Vec::new();
        for n in 0..=V::LANES {
            let mut row = vec![9.0; V::LANES];
            V::load_n(self.0.as_ptr(), n).add(V::splat(1.0)).store_n(row.as_mut_ptr(), n);
            assert!(row[..n].iter().zip(self.0).all(|(r, a)| *r == a + 1.0), "{n}");
            assert!(row[n..].iter().all(|r| *r == 9.0), "{n}");
            V::load_n(self.0.as_ptr(), n).store(row.as_mut_ptr());
            assert!(row[n..].iter().all(|r| *r == 0.0), "{n}");
            partial.extend_from_slice(&row[..n]);
        }
        let bytes: Vec<u8> = (0..16).map(|i| i * 17).collect();
        let mut copy = vec![0u8; 16];
        for at in (0..16).step_by(V::LANES) {
            V::load_bytes(bytes.as_ptr().add(at)).store_bytes(copy.as_mut_ptr().add(at));
        }
        assert_eq!(bytes, copy);
        V::prefetch(self.0.as_ptr());
        let many: [V; 16] = std::array::from_fn(|i| V::load(self.0.as_ptr()).mul(V::splat(i as f32)));
        let mut sums = [0.0; 16];
        V::sums(many, sums.as_mut_ptr());
        for (i, sum) in sums.into_iter().enumerate() {
            let expected: f32 = self.0[..V::LANES].iter().map(|a| a * i as f32).sum();
            assert!(
                (sum - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                "{i}: {sum} for {expected}"
            );
        }
        found
    }
}

#[test]
fn every_instruction_set_computes_the_same() {
    let a: [f32; 16] = std::array::from_fn(|i| i as f32 * 1.75 - 9.5);
    let b: [f32; 16] = std::array::from_fn(|i| if i % 5 == 0 { a[i].abs() } else { 0.5 + i as f32 * 0.25 });
    for isa in Isa::available() {
        // SAFETY: rows of 16 values are what it reads.
        for (name, row) in unsafe { dispatch(isa, All(&a, &b)) } {
            for (i, found) in row.into_iter().enumerate() {
                let lanes = isa.lanes();
                let (start, lane) = (i / lanes * lanes, i % lanes);
                let (mine, other) = (&a[start..][..lanes], &b[start..][..lanes]);
                let pick = |at: usize| f64::from(if at < lanes { mine[at] } else { other[at - lanes] });
                let zipped = |at: usize| f64::from(if at.is_multiple_of(2) { mine[at / 2] } else { other[at / 2] });
                let (a, b) = (f64::from(a[i]), f64::from(b[i]));
                let expected = match name {
                    "add" => a + b,
                    "sub" => a - b,
                    "mul" => a * b,
                    "div" => a / b,
                    "fma" => a * b + 2.0,
                    "max" => a.max(b),
                    "min" => a.min(b),
                    "sqrt" => b.sqrt(),
                    "abs" => a.abs(),
                    "round" => a.round_ties_even(),
                    "exp2" => a.round_ties_even().exp2(),
                    "integer" => (a * 1.37).round_ties_even(),
                    "power" => (a * 1.37).round_ties_even().exp2(),
                    "mantissa" => b / b.log2().floor().exp2(),
                    "exponent" => b.log2().floor(),
                    "gt" => f64::from(u8::from(a > b)) * a,
                    "gt or nan" => f64::from(u8::from(a > b || a > 9.0)),
                    "wide" => mine
                        .iter()
                        .zip(other)
                        .map(|(&a, &b)| f64::from(a) * f64::from(b) + f64::from(a) * f64::from(a))
                        .sum(),
                    "evens" => pick(2 * lane),
                    "zip evens" => a,
                    "zip" => zipped(lanes + lane),
                    "eq" => {
                        if a == b {
                            1.0
                        } else {
                            b
                        }
                    }
                    "sum" => mine.iter().map(|&v| f64::from(v)).sum(),
                    "largest" => f64::from(mine.iter().copied().fold(f32::MIN, f32::max)),
                    other => panic!("{other} has no reference"),
                };
                let error = (f64::from(found) - expected).abs();
                assert!(
                    error <= 1e-6 * expected.abs().max(1.0),
                    "{isa:?} {name} lane {i}: {found} for {expected}"
                );
            }
        }
    }
}
