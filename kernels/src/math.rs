//! exp, tanh and their kin over a register.
