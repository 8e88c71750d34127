//! A colour for each class: always the same one, and neighbours well apart.

/// The golden angle: hues that follow each other are far from all before.
const TURN: f32 = 137.508;

/// The colour of a class.
pub fn colour(class: usize) -> (u8, u8, u8) {
    let hue = (class as f32 * TURN) % 360.0;
    let channel = |shift: f32| {
        let k = (shift + hue / 60.0) % 6.0;
        let share = 1.0 - k.min(4.0 - k).clamp(0.0, 1.0) * 0.85;
        (share * 235.0) as u8
    };
    (channel(5.0), channel(3.0), channel(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_apart() {
        assert_eq!(colour(0), (235, 35, 35));
        let far = |left: (u8, u8, u8), right: (u8, u8, u8)| {
            let apart = |a: u8, b: u8| i32::from(a.abs_diff(b));
            apart(left.0, right.0) + apart(left.1, right.1) + apart(left.2, right.2)
        };
        for class in 0..8 {
            for other in 0..class {
                assert!(far(colour(class), colour(other)) > 60, "{class} and {other}");
            }
        }
    }
}
