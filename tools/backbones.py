"""Some backbones, what they give and the images they take; writes the table of docs/backbones.md.

    python tools/backbones.py [NAME ...]

With names, the table of those is printed and nothing is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from geossl.errors import UsageError
from geossl.models.backbone import Encoder, build_backbone, sees_batch

DOC = Path(__file__).parents[1] / "docs/backbones.md"
BEGIN, END = "<!-- table: tools/backbones.py -->\n", "<!-- end of table -->\n"
NAMES = (
    *("resnet18", "resnet50", "wide_resnet50_2", "convnext_tiny", "densenet121", "mobilenet_v3_small"),
    *("efficientnet_b0", "regnet_y_400mf", "swin_t", "vit_b_16", "maxvit_t", "inception_v3"),
    *("timm/resnet18", "timm/convnext_atto", "timm/vit_tiny_patch16_224", "timm/vit_small_patch16_224"),
    *(
        "timm/deit3_small_patch16_224",
        "timm/swin_tiny_patch4_window7_224",
        "timm/efficientnet_b0",
        "timm/coatnet_0_rw_224",
    ),
)
SIZES = (32, 48, 64, 96, 112, 128, 192, 224)


def line(name: str) -> str:
    """The table's row of a model."""
    built: Encoder | None = None
    takes = []
    for size in SIZES:
        try:
            built = build_backbone(name, bands=3, seed=0, size=size)
        except UsageError:
            continue
        takes.append(str(size))
    if built is None:
        raise SystemExit(f"{name} takes none of these sizes")
    millions = sum(p.numel() for p in built.parameters()) / 1e6
    sizes = "all" if len(takes) == len(SIZES) else ", ".join(takes)
    groups = "yes" if sees_batch(name, size=int(takes[-1])) else "no"
    return f"| `{name}` | {millions:.1f} | {built.num_features} | {sizes} | {groups} |\n"


def main(names: list[str]) -> None:
    """Make the table."""
    head = (
        f"| `model.backbone` | parameters, million | feature | sizes, of {', '.join(map(str, SIZES))} "
        "| batch normalisation |\n|---|---:|---:|---|---|\n"
    )
    table = head + "".join(line(name) for name in names or NAMES)
    if names:
        print(table, end="")
        return
    text = DOC.read_text(encoding="utf-8")
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    DOC.write_text(text[:before] + table + text[after:], encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
