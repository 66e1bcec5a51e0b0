//! Reads a model from a folder: the file, and the files beside it where an exporter put the weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_onnx::{MAX_MODEL_BYTES, Model, ReadError, external};
use aimass_shrink::sparse::{self, SparseError};
use bytes::Bytes;

use crate::bounded_file::{self, FileError};

/// Why a model can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} leads to a file outside the model's folder; put the values beside the model, or save the model as one file", path.display())]
    Outside { path: PathBuf },
    #[error(transparent)]
    Model(#[from] ReadError),
    #[error(transparent)]
    Sparse(#[from] SparseError),
}

/// The model as it is trained and run here: one file of at most [`MAX_MODEL_BYTES`], see [`Model::prepared`]; sparse weights are expanded.
pub(crate) fn read(path: &Path) -> Result<Model, ModelFileError> {
    Ok(sparse::expand(&Model::from_shared(one_file(path)?)?.prepared()?)?)
}

fn one_file(path: &Path) -> Result<Bytes, ModelFileError> {
    let model = Bytes::from(bounded_file::read(path, MAX_MODEL_BYTES)?);
    let wanted = external::files(&model)?;
    if wanted.is_empty() {
        return Ok(model);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let resolved = |path: &Path| {
        path.canonicalize().map_err(|source| FileError::Io {
            path: path.to_owned(),
            source,
        })
    };
    let real_folder = resolved(folder)?;
    let mut files = BTreeMap::new();
    let mut left = MAX_MODEL_BYTES;
    for location in wanted {
        let path = folder.join(&location);
        // Links may lead away from where the name points.
        let real = resolved(&path)?;
        if !real.starts_with(&real_folder) {
            return Err(ModelFileError::Outside { path });
        }
        let content = bounded_file::read(&real, left)?;
        left -= content.len();
        files.insert(location, Bytes::from(content));
    }
    Ok(external::bring_in(model, &files)?)
}

#[cfg(test)]
mod tests {
    use aimass_onnx::build::mlp;
    use aimass_onnx::proto::{DataLocation, ModelProto, StringStringEntryProto};
    use prost::Message;

    use super::*;

    /// Writes a model whose first weights are in `location`.
    fn split(folder: &Path, location: &str) -> Model {
        let model = mlp(&[4, 3], 1);
        let mut proto = ModelProto::decode(model.as_bytes()).expect("decodes");
        let tensor = &mut proto.graph.as_mut().expect("a graph").initializer[0];
        std::fs::write(folder.join("w.data"), &tensor.raw_data).expect("written");
        tensor.raw_data = Bytes::new();
        tensor.data_location = DataLocation::External as i32;
        tensor.external_data = vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: location.to_owned(),
        }];
        std::fs::write(folder.join("m.onnx"), proto.encode_to_vec()).expect("written");
        model
    }

    #[test]
    fn weights_beside_the_model_are_read_with_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let model = split(dir.path(), "w.data");
        let read = read(&dir.path().join("m.onnx")).expect("reads");
        let values = |model: &Model| model.initializers().map(|t| t.to_f32()).collect::<Vec<_>>();
        assert_eq!(values(&read), values(&model));
    }

    #[test]
    fn nothing_outside_the_folder_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        split(&inner, "../secret");
        let failed = |name: &str| read(&inner.join(name)).expect_err("refused").to_string();
        assert!(failed("m.onnx").contains("no file inside the model's folder"));
        split(&inner, "none.data");
        assert!(failed("m.onnx").contains("none.data"));
        assert!(failed("none.onnx").contains("none.onnx"));
        #[cfg(unix)]
        {
            split(&inner, "link.data");
            std::fs::write(dir.path().join("secret"), [0; 64]).expect("written");
            std::os::unix::fs::symlink(dir.path().join("secret"), inner.join("link.data")).expect("linked");
            assert!(failed("m.onnx").contains("outside the model's folder"));
        }
    }
}
