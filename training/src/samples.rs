//! Held-out pictures as files, and beside each what is on it: for examples, tests and benchmarks. Owns which pictures
//! and the form of their truth; refuses to draw anything itself.

use std::{io::Write, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{
    microscopy::{Ground, Specimen},
    picture::{Picture, jpeg, png},
    scenes::{Object, Scene},
    vision::held_out,
};

/// Scenes, and their size: as most cameras' previews.
const SCENES: u64 = 8;
const SCENE: [usize; 2] = [640, 480];
/// What a benchmark's picture should be like: 640 x 480 in about 57 KB.
const SCENE_BYTES: usize = 57_000;
const QUALITIES: [u8; 6] = [95, 90, 85, 75, 60, 45];
/// Specimens of a model's size, some that take tiles, and one that takes many.
const SPECIMENS: [(&str, u64, [usize; 2]); 3] =
    [("cells", 8, [256, 256]), ("cells-wide", 2, [700, 520]), ("cells-large", 1, [2048, 2048])];
/// Samples are to show something: so many cells, of which there are enough among this many times as many seeds.
const LEAST_CELLS: usize = 8;
const TRIES: u64 = 10;

/// What a scene's JSON says.
#[derive(Serialize)]
struct SceneTruth {
    width: usize,
    height: usize,
    objects: Vec<Object>,
}

/// What a specimen's JSON says; the mask is a PNG beside it.
#[derive(Serialize)]
struct SpecimenTruth {
    width: usize,
    height: usize,
    /// Cells of which something is seen.
    cells: usize,
}

/// Writes all into the folder `to`.
pub(crate) fn write(to: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    let put = |name: String, bytes: &[u8]| {
        let file = to.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("writing {}", file.display()))
    };
    for (index, seed) in held_out(SCENES).into_iter().enumerate() {
        let [width, height] = SCENE;
        let scene = Scene::new(seed, width, height);
        put(format!("scene-{index}.jpg"), &photograph(&scene.picture)?)?;
        let truth = SceneTruth { width, height, objects: scene.objects };
        put(format!("scene-{index}.json"), &serde_json::to_vec_pretty(&truth)?)?;
    }
    for (kind, count, [width, height]) in SPECIMENS {
        let specimens = held_out(TRIES * count).into_iter().map(|seed| Specimen::new(seed, width, height));
        let populated = specimens.filter(|specimen| specimen.cells >= LEAST_CELLS);
        for (index, specimen) in populated.take(count as usize).enumerate() {
            let name = if count == 1 { kind.to_owned() } else { format!("{kind}-{index}") };
            put(format!("{name}.png"), &png(&specimen.picture)?)?;
            put(format!("{name}-mask.png"), &png(&mask(&specimen))?)?;
            let truth = SpecimenTruth { width, height, cells: specimen.cells };
            put(format!("{name}.json"), &serde_json::to_vec_pretty(&truth)?)?;
        }
    }
    writeln!(out, "samples: written to {}", to.display())?;
    Ok(())
}

/// A JPEG of at most the wanted size, as good as that allows.
fn photograph(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    let mut file = Vec::new();
    for quality in QUALITIES {
        file = jpeg(picture, quality)?;
        if file.len() <= SCENE_BYTES {
            break;
        }
    }
    Ok(file)
}

/// White where there is a cell.
fn mask(specimen: &Specimen) -> Picture {
    let mut mask = Picture::filled(specimen.picture.width, specimen.picture.height, [0.0; 3]);
    for (pixel, _) in specimen.ground.iter().enumerate().filter(|(_, ground)| **ground == Ground::Cell) {
        mask.blend(pixel, [1.0; 3], 1.0);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_has_its_truth_beside_it() {
        let folder = std::env::temp_dir().join(format!("tenon-training-samples-{}", std::process::id()));
        write(&folder, &mut Vec::new()).unwrap();
        let names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let pictures = names.iter().filter(|name| !name.ends_with(".json") && !name.contains("mask"));
        for picture in pictures.clone() {
            let (stem, _) = picture.rsplit_once('.').unwrap();
            let truth = std::fs::read_to_string(folder.join(format!("{stem}.json"))).unwrap();
            assert!(truth.contains("\"width\""), "{truth}");
            assert!(picture.starts_with("scene") || names.contains(&format!("{stem}-mask.png")));
        }
        assert_eq!(pictures.count(), 19);
        for index in 0..SCENES {
            let bytes = std::fs::metadata(folder.join(format!("scene-{index}.jpg"))).unwrap().len();
            assert!((10_000..2 * SCENE_BYTES as u64).contains(&bytes), "scene {index}: {bytes} bytes");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
