"""A network as a table for people."""

from xmlp.network import configs
from xmlp.network.chain import Chain


def summary(chain: Chain, link: str) -> str:
    """A line for each layer: outputs, parameters, settings; and one for all."""
    rows = []
    for i, (layer, sizes) in enumerate(zip(chain.layers, chain.layout.sizes(), strict=True)):
        rows.append((f"{i} {type(layer).__name__}", str(chain.widths[i + 1]), str(sizes), configs.settings(layer)))
    rows.append((f"link {link}", "", str(chain.layout.size), ""))
    width = max(len(r[0]) for r in rows)
    lines = [f"{'layer':{width}}  outputs  parameters"]
    lines += [f"{name:{width}}  {out:>7}  {count:>10}  {text}".rstrip() for name, out, count, text in rows]
    return "\n".join(lines)
