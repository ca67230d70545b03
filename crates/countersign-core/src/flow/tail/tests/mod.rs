//! The tail in a model of the world.

mod model;
