//! The order of the rooms, and that each external crate stays in its room.
