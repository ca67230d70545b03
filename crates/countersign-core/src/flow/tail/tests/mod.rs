//! Tests of the tail in a model of everything around it.

mod model;
