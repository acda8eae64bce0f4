"""How the page looks: light or dark as the reader's system is, in one column on a phone."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5f6368; --paper: #ffffff; --card: #f5f5f7; --line: #d0d0d4;
  --bad: #a33c00; --good: #00684a; --c0: #0072b2; --c1: #c24e00; --c2: #007a57; --c3: #a8467c; --c4: #8f6400;
  --c5: #2a7fb0; --c6: #333333; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a5a8ae; --paper: #161618; --card: #222226;
  --line: #45454b; --bad: #ff9a5c; --good: #4fd1a5; --c0: #56b4e9; --c1: #ff8a3d; --c2: #2fc79a; --c3: #e39ac4;
  --c4: #e69f00; --c5: #8fd0f5; --c6: #dddddd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 0.4rem 0; overflow-wrap: anywhere; }
.soft, caption, figcaption { color: var(--soft); font-size: 0.9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.6rem; margin: 1rem 0; }
.cards div { background: var(--card); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.cards b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
caption { text-align: left; padding-bottom: 0.3rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.7rem 0.25rem 0; text-align: left;
  vertical-align: top; }
caption span { display: block; max-width: calc(100vw - 2.5rem); }
th[scope=row] { min-width: 8rem; }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
article { background: var(--card); border-radius: 0.5rem; padding: 0.8rem; min-width: 0; }
article.wide { grid-column: 1 / -1; }
article dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.1rem 0.8rem; margin: 0.5rem 0; }
dt { color: var(--soft); max-width: 12rem; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
figure { margin: 0.6rem 0 0; }
img { max-width: 100%; height: auto; border-radius: 0.3rem; }
.missing { border: 1px dashed var(--line); border-radius: 0.3rem; padding: 0.8rem; color: var(--soft); }
.tag { font-weight: 600; } .error, .wrong, .lost { color: var(--bad); } .right, .kept { color: var(--good); }
svg.curve { width: 100%; height: auto; max-width: 46rem; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--line); } svg .level { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 1.8; } svg .mark { stroke: var(--paper); stroke-width: 0.8; }
.key { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; font-size: 0.9rem; }
.key svg { width: 2rem; height: 0.9rem; vertical-align: middle; margin-right: 0.3rem; }
""" + "".join(f".s{i} {{ stroke: var(--c{i}); }} .f{i} {{ fill: var(--c{i}); }}\n" for i in range(7))
