//! Nothing but a place for the tests in `tests/`: black-box tests of the binaries, parity with
//! golden numbers, and fault tests.
