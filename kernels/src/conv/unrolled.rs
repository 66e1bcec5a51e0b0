//! Loops that stay written out.

/// Repeats the block for `T` from 0 to below `N`, written out: the compiler leaves loops of 25 as they are, and arrays in memory.
macro_rules! unrolled {
    ($t:ident < $n:expr, $body:block) => {
        unrolled!(@ $t, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24)
    };
    (@ $t:ident, $n:expr, $body:block, $($i:literal)*) => {
        $(if $i < $n {
            const $t: usize = $i;
            $body
        })*
    };
}
