"""All export formats, by their names in `--format`."""

from thaw.exports import litert_file, onnx_file, openvino_folder, saved_model_folder
from thaw.exports.base import Format

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (*litert_file.FORMATS, onnx_file.FORMAT, openvino_folder.FORMAT, saved_model_folder.FORMAT)
}
