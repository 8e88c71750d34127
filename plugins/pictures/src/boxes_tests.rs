//! Rows of each layout, right and wrong.

use super::*;

fn reading(layout: Layout) -> Reading {
    Reading { layout, classes: 2, least: 0.25, only: None, candidates: 10 }
}

fn found(class: usize, confidence: f32, corners: [f32; 4]) -> Found {
    Found { class, confidence, corners }
}

/// Three anchors of two classes: x, y, width, height, then the classes.
const ROW: [f32; 18] = [
    10.0, 50.0, 30.0, 20.0, 60.0, 40.0, 4.0, 8.0, 10.0, 2.0, 6.0, 10.0, // where they are
    0.9, 0.1, 0.3, 0.05, 0.95, 0.2, // how sure of the first class, and of the second
];

#[test]
fn the_layout_of_yolov8() {
    let all = reading(Layout::YoloV8).read(&ROW).unwrap();
    let wanted = [
        found(1, 0.95, [46.0, 57.0, 54.0, 63.0]),
        found(0, 0.9, [8.0, 19.0, 12.0, 21.0]),
        found(0, 0.3, [25.0, 35.0, 35.0, 45.0]),
    ];
    assert_eq!(all, wanted);
    let few = Reading { candidates: 2, ..reading(Layout::YoloV8) };
    assert_eq!(few.read(&ROW).unwrap(), wanted[..2]);
    let second = Reading { only: Some(vec![false, true]), ..reading(Layout::YoloV8) };
    assert_eq!(second.read(&ROW).unwrap(), wanted[..1]);
    let sure = Reading { least: 0.9, ..reading(Layout::YoloV8) };
    assert_eq!(sure.read(&ROW).unwrap(), wanted[..1], "above, not at");
}

#[test]
fn the_layouts_of_others() {
    let row = [10.0, 20.0, 4.0, 2.0, 0.5, 0.1, 0.8, 10.0, 20.0, 4.0, 2.0, 0.2, 1.0, 1.0];
    let wanted = [found(1, 0.4, [8.0, 19.0, 12.0, 21.0])];
    assert_eq!(reading(Layout::YoloV5).read(&row).unwrap(), wanted);
    let row = [8.0, 19.0, 12.0, 21.0, 0.4, 1.0, 8.0, 19.0, 12.0, 21.0, 0.9, 2.0, 8.0, 19.0, 12.0, 21.0, 0.9, -1.0];
    assert_eq!(reading(Layout::YoloV10).read(&row).unwrap(), wanted, "classes that are not there are dropped");
}

#[test]
fn what_is_no_number_is_told() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in 0..ROW.len() {
            let mut row = ROW;
            row[place] = odd;
            assert_eq!(reading(Layout::YoloV8).read(&row), Err(Unreadable::NotFinite));
        }
    }
    assert_eq!(reading(Layout::YoloV8).read(&ROW[1..]), Err(Unreadable::WrongLength));
    assert_eq!(reading(Layout::YoloV8).read(&[]), Err(Unreadable::WrongLength));
}

#[test]
fn what_is_no_box_is_dropped() {
    let with = |width: f32, height: f32| {
        let row = [5.0, 5.0, width, height, 0.9, 0.1];
        reading(Layout::YoloV8).read(&row).unwrap().len()
    };
    assert_eq!(with(1.0, 1.0), 1);
    for (width, height) in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f32::MAX, f32::MAX), (-0.0, -0.0)] {
        let kept = with(width, height);
        assert!(kept == 0 || width == f32::MAX, "{width} x {height}: {kept}");
    }
}

#[test]
fn boxes_go_back_through_the_letterbox() {
    // 1280 x 640 into 640 x 640: halved, with 160 rows of bars above.
    let scale = Point { x: 2.0, y: 2.0 };
    let mapping = Mapping { scale, origin: Point { x: 0.0, y: -320.0 } };
    let placed = |corners| found(0, 0.9, corners).placed(&mapping, (1280, 640));
    assert_eq!(placed([10.0, 170.0, 20.0, 180.0]).unwrap().corners, [20.0, 20.0, 40.0, 40.0]);
    assert_eq!(placed([-5.0, 100.0, 700.0, 900.0]).unwrap().corners, [0.0, 0.0, 1280.0, 640.0]);
    assert_eq!(placed([10.0, 10.0, 20.0, 100.0]), None, "in the bars");
}
