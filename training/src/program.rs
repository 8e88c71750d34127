//! The program inside a saved module: an archive whose `forward` is text. Owns reading and changing that text, for two
//! reasons. libtorch's tracer, as tch reaches it, records one output only: so several are traced into one operation
//! that lists them all, and the text is changed to return that list. And a conversion traced carelessly names the
//! device of this machine: such a program would fail on every other, so it is refused here. Refuses to change a text
//! that does not look exactly as expected; that the result computes the same is for `export::verify` to check.

use std::{
    fs::{self, File},
    io::{Cursor, Read, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use tch::{TchError, Tensor};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::FileOptions};

/// The operation that lists the outputs; it gives back tensors of one dimension and more unchanged, of any datatype.
const MARK: &str = "torch.atleast_1d([";
const DEVICE: &str = "torch.device(";
/// The entry with the text of `forward`, below the archive's own folder.
const CODE: &str = "/code/__torch__.py";
/// Where the original text's pieces came from: stale once the text has changed, and optional.
const RANGES: &str = ".debug_pkl";

/// To be traced: names all outputs in one operation, and answers the first.
pub(crate) fn mark(outputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    let mut listed = Tensor::f_atleast_1d_sequence(outputs)?;
    listed.truncate(1);
    Ok(listed)
}

/// An error if the program names a device, and so would compute on that one whatever it was loaded on.
pub(crate) fn refuse_fixed_device(file: &Path) -> anyhow::Result<()> {
    let mut archive = ZipArchive::new(File::open(file)?).context("opening the saved module")?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        if entry.name().ends_with(CODE) {
            let mut code = String::new();
            entry.read_to_string(&mut code)?;
            if let Some(line) = code.lines().find(|line| line.contains(DEVICE)) {
                bail!("names a device (`to_dtype` converts without one): {}", line.trim());
            }
        }
    }
    Ok(())
}

/// Makes the saved module, whose outputs were marked, return all `count` of them.
pub(crate) fn answer_all(file: &Path, count: usize) -> anyhow::Result<()> {
    let mut archive = ZipArchive::new(File::open(file)?).context("opening the saved module")?;
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut changed = false;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name().to_owned();
        if name.ends_with(RANGES) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if name.ends_with(CODE) {
            bytes = return_all(std::str::from_utf8(&bytes)?, count)?.into_bytes();
            changed = true;
        }
        // Stored, as libtorch wants it; dated 1980, so that equal models are equal files.
        writer.start_file(
            name,
            FileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(zip::DateTime::default()),
        )?;
        writer.write_all(&bytes)?;
    }
    ensure!(changed, "no {CODE} in the saved module");
    fs::write(file, writer.finish()?.into_inner())?;
    Ok(())
}

/// The same program, returning the tuple of what the marked line lists.
fn return_all(code: &str, count: usize) -> anyhow::Result<String> {
    let lines: Vec<_> = code.trim_end().lines().collect();
    let [before @ .., marked, last] = lines.as_slice() else { bail!("the program has no body:\n{code}") };
    let Some((names, _)) = marked.split_once(" = ").filter(|(_, rest)| rest.starts_with(MARK)) else {
        bail!("the line before the last is not {MARK}…:\n{code}");
    };
    let names: Vec<_> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    ensure!(names.len() == count, "{} outputs listed instead of {count}:\n{code}", names.len());
    ensure!(last.trim() == format!("return {}", names[0]), "does not return its first output:\n{code}");
    let types = vec!["Tensor"; count].join(", ");
    let head = before.join("\n");
    ensure!(head.matches("-> Tensor:").count() == 1, "not exactly one function:\n{code}");
    let head = head.replace("-> Tensor:", &format!("-> Tuple[{types}]:"));
    Ok(format!("{head}\n{marked}\n    return ({})\n", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "class m(Module):\n  def forward(self: __torch__.m,\n    a: Tensor) -> Tensor:\n    \
                        b, c, = torch.atleast_1d([torch.mul(a, 1), a])\n    return b\n";

    #[test]
    fn all_outputs_are_returned() {
        let changed = return_all(CODE, 2).unwrap();
        assert!(changed.contains("-> Tuple[Tensor, Tensor]:\n"), "{changed}");
        assert!(changed.ends_with("a])\n    return (b, c)\n"), "{changed}");
    }

    #[test]
    fn anything_else_is_left_alone() {
        assert!(return_all(CODE, 3).is_err());
        assert!(return_all(&CODE.replace("return b", "return c"), 2).is_err());
        assert!(return_all(&CODE.replace("atleast_1d", "stack"), 2).is_err());
        assert!(return_all("", 2).is_err());
    }
}
