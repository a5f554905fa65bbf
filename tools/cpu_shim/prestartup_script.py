"""Development host only: lets a torchvision that was built for CUDA import beside a CPU build of torch.

torchvision registers fake kernels for two operators of its compiled library. Where that library cannot be loaded,
the operators are unknown and the import fails, so their schemas are declared here before torchvision is imported.
"""

import torch

_library = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
# A library that is garbage collected takes its schemas with it.
vars(torch)["_layerdiff_torchvision_schemas"] = _library
