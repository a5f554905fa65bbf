"""For development only: makes a torchvision built for CUDA work with a CPU build of torch.

torchvision registers fake kernels for two operators of its compiled library. If that library cannot be loaded, the operators
are unknown and the import fails, so their schemas are declared here before torchvision is imported.
"""

import torch

_library = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
# Kept, because a garbage-collected library would remove its schemas.
vars(torch)["_layerdiff_torchvision_schemas"] = _library
