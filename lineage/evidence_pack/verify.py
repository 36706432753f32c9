"""Verify an evidence pack: `python verify.py` inside the unpacked folder. Python alone is enough.

1. Every file is, byte for byte, the one that was packed.
2. The score comes out again: the model's trees over the features, in plain Python, give the stored log-odds to the bit.
3. With DuckDB installed (`pip install duckdb`): the archived SQL over the source rows gives the features again.
4. The audit log's records of this score are whole and linked, up to its checkpoint.
5. With cryptography installed (`pip install cryptography`): the pack, each approval and the checkpoint are signed.
   Whose keys these are, the pack cannot say: `--key ID` wants the id that the lender gave you by another way.

Exit code 0 when all that could be checked holds, 1 when something does not, each named.
"""

import sys

if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # this folder: a file added to it must not stand in for a module of Python's

import base64
import csv
import hashlib
import json
import math
import struct
from decimal import Decimal, localcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
OWN = {"manifest.json", "manifest.sha256", "manifest.dsse.json"}
SKIPPED = []


def main():
    sys.stdout.reconfigure(errors="replace")  # a console without ✓ is no problem of the pack
    problems = check_files()
    if problems:
        for problem in problems:
            print(f"✕ {problem}")
        print(f"NOT VERIFIED: {len(problems)} problems")
        return 1
    count = len(json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))["files"])
    print(f"✓ {count} files are those that were packed")
    facts = json.loads((HERE / "facts.json").read_text(encoding="utf-8"))
    problems = check_score(facts) + check_features(facts) + check_chain() + check_signatures()
    for problem in problems:
        print(f"✕ {problem}")
    if problems:
        print(f"NOT VERIFIED: {len(problems)} problems")
    elif SKIPPED:
        print(f"FILES VERIFIED; not computed again: {', '.join(what.partition(':')[0] for what in SKIPPED)}")
    else:
        print("VERIFIED")
    return 1 if problems else 0


def not_computed(what):
    """Say what could not be computed again, and why; it is no problem, but the last word names it."""
    print(f"– not computed: {what}")
    SKIPPED.append(what)
    return []


def check_files():
    """What is missing, changed or added, by name."""
    try:
        manifest = (HERE / "manifest.json").read_bytes()
        envelope = (HERE / "manifest.dsse.json").read_bytes()
        written = (HERE / "manifest.sha256").read_bytes()
    except OSError as error:
        return [f"{Path(error.filename).name} is missing"]
    sums = {"manifest.json": manifest, "manifest.dsse.json": envelope}
    if written != "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in sums.items()).encode():
        return ["manifest.json, manifest.dsse.json or manifest.sha256 has been changed: they do not belong together"]
    listed = json.loads(manifest)["files"]
    problems = []
    for name, sha256 in listed.items():
        path = HERE / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            problems.append(f"{name} has been changed")
    there = {p.relative_to(HERE).as_posix() for p in HERE.rglob("*") if p.is_symlink() or not p.is_dir()}
    problems += [f"{name} was not packed" for name in sorted(there - set(listed) - OWN)]
    return problems


def check_itself():
    """Apart from the other checks and said by the exit itself: one changed byte of this file cannot undo both."""
    try:
        listed = json.loads((HERE / "manifest.json").read_bytes())["files"]["verify.py"]
    except (OSError, ValueError, KeyError):
        return  # check_files has named the manifest
    if hashlib.sha256(Path(__file__).read_bytes()).hexdigest() != listed:
        sys.exit("verify.py has been changed")


def check_score(facts):
    """The model's bytes are those of the digest, and its trees over the features give the stored score."""
    content = (HERE / "model.lgb").read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["model"]["digest"]:
        return ["model.lgb is not the model of the digest in facts.json"]
    values = facts["model_inputs"]
    masked = [name for name, value in values.items() if value == facts["mask"]]
    if masked:
        return not_computed(f"score: {len(masked)} of the model's inputs are personal data and masked")
    names, trees = parse(content.decode("utf-8"))
    row = [float("nan") if values[n] is None else float(values[n]) for n in names]
    raw = 0.0
    for tree in trees:
        raw += leaf(tree, row)
    stored = facts["score"]
    problems = []
    if struct.pack("<d", raw) != struct.pack("<d", stored["log_odds"]):
        problems.append(f"log-odds: {raw!r} computed, {stored['log_odds']!r} stored")
    pd = probability(raw)
    if abs(pd - stored["pd"]) > math.ulp(stored["pd"]):
        problems.append(f"PD: {pd!r} computed, {stored['pd']!r} stored")
    if not problems:
        print(f"✓ the score comes out again: log-odds {raw!r} from {len(trees)} trees over {len(names)} features")
    return problems


def parse(text):
    """Feature names and trees of a LightGBM model text."""
    names, trees = [], []
    for block in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "feature_names" in fields:
            names = fields["feature_names"].split()
        if "leaf_value" in fields:
            if int(fields.get("num_cat", 0)):
                raise SystemExit("this verifier does not read categorical splits")
            trees.append(
                {
                    "feature": [int(v) for v in fields.get("split_feature", "").split()],
                    "threshold": [float(v) for v in fields.get("threshold", "").split()],
                    "decision": [int(v) for v in fields.get("decision_type", "").split()],
                    "left": [int(v) for v in fields.get("left_child", "").split()],
                    "right": [int(v) for v in fields.get("right_child", "").split()],
                    "value": [float(v) for v in fields["leaf_value"].split()],
                }
            )
    return names, trees


def leaf(tree, row):
    """The value of the leaf a row falls into. Decision bits: 2 default left; from 4 up, what counts as missing."""
    if not tree["feature"]:
        return tree["value"][0]
    node = 0
    while node >= 0:
        value = row[tree["feature"][node]]
        missing_type = (tree["decision"][node] >> 2) & 3  # 0 none, 1 zero, 2 NaN
        if math.isnan(value) and missing_type != 2:
            value = 0.0
        missing = math.isnan(value) if missing_type == 2 else missing_type == 1 and abs(value) <= 1e-35
        left = bool(tree["decision"][node] & 2) if missing else value <= tree["threshold"][node]
        node = tree["left"][node] if left else tree["right"][node]
    return tree["value"][~node]


def probability(raw):
    """1 / (1 + exp(-x)), in 50 digits, rounded once."""
    with localcontext() as context:
        context.prec = 50
        return float(1 / (1 + (-Decimal(raw)).exp()))


def quoted(name):
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def check_features(facts):
    """The archived SQL over the source rows gives the stored features."""
    if facts["masked"]:
        return not_computed("features: personal data among the source rows is masked")
    try:
        import duckdb
    except ImportError:
        return not_computed("features: DuckDB is not installed (pip install duckdb)")
    recipe = facts["rebuild"]
    con = duckdb.connect()
    con.execute("SET threads = 1; SET TimeZone = 'UTC'; ATTACH ':memory:' AS lake; CREATE SCHEMA lake.raw")
    for table, columns in recipe["tables"].items():
        spelled = ", ".join(f"{quoted(c)} {kind}" for c, kind in columns.items())
        con.execute(f"CREATE TABLE lake.raw.{quoted(table)} ({spelled})")
        path = HERE / "rows" / f"{table}.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as handle:
                header, *rows = csv.reader(handle)
            slots = ", ".join(f"CAST(? AS {columns[c]})" for c in header[1:])
            for row in rows:  # the first column is the row's id in the lake
                values = [None if v == "" else v for v in row[1:]]
                con.execute(f"INSERT INTO lake.raw.{quoted(table)} VALUES ({slots})", values)
    for model in recipe["models"]:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{quoted(model['schema'])}")
        sql = (HERE / "sql" / model["file"]).read_text(encoding="utf-8")
        con.execute(f"CREATE {model['kind']} {model['relation']} AS {sql}")
    found = con.execute(f"SELECT * FROM {recipe['models'][-1]['relation']}")
    names = [c[0] for c in found.description]
    row = found.fetchone()
    if row is None:
        return ["the source rows give no row of features"]
    problems = []
    computed = dict(zip(names, row, strict=False))
    for name, stored in facts["feature_values"].items():
        value = computed.get(name)
        if bits(value) != bits(stored):
            problems.append(f"feature {name}: {value!r} computed, {stored!r} stored")
    if not problems:
        print(f"✓ {len(facts['feature_values'])} features come out again from the source rows")
    return problems


def check_chain():
    """Each record has the hash that it carries and names the one before it; the checkpoint has the last."""
    path = HERE / "audit" / "chain.jsonl"
    if not path.is_file():
        return not_computed("audit log: no checkpoint had been taken when this was packed")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = 0
    for before, record in zip([None, *records], records, strict=False):
        if before and (record["seq"], record["prev_sha256"]) != (before["seq"] + 1, before["sha256"]):
            return [f"audit/chain.jsonl: record {record['seq']} does not follow record {before['seq']}"]
        if "detail" in record:
            told += 1
            fields = {name: value for name, value in record.items() if name != "sha256"}
            text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            if hashlib.sha256(text.encode()).hexdigest() != record["sha256"]:
                return [f"audit/chain.jsonl: record {record['seq']} has been changed"]
    envelope = json.loads((HERE / "audit" / "checkpoint.json").read_text(encoding="utf-8"))
    checkpoint = json.loads(base64.b64decode(envelope["payload"]))
    last = records[-1]
    if (checkpoint["seq"], checkpoint["sha256"]) != (last["seq"], last["sha256"]):
        return ["audit/checkpoint.json is of another log than audit/chain.jsonl"]
    print(f"✓ {told} records of the audit log in a chain of {len(records)}, up to the checkpoint of {checkpoint['at']}")
    return []


def check_signatures():
    """The pack's own envelope holds its manifest, and every envelope is signed by one of the keys beside it."""
    envelopes = {"manifest.dsse.json": json.loads((HERE / "manifest.dsse.json").read_text(encoding="utf-8"))}
    if base64.b64decode(envelopes["manifest.dsse.json"]["payload"]) != (HERE / "manifest.json").read_bytes():
        return ["manifest.dsse.json has been changed: it holds another manifest"]
    signed_by = envelopes["manifest.dsse.json"]["signatures"][0]["keyid"]
    wanted = sys.argv[sys.argv.index("--key") + 1] if "--key" in sys.argv[:-1] else signed_by
    if wanted != signed_by:
        return [f"manifest.dsse.json is signed by key {signed_by}, and {wanted} is wanted"]
    if (HERE / "audit" / "checkpoint.json").is_file():
        envelopes["audit/checkpoint.json"] = json.loads(
            (HERE / "audit" / "checkpoint.json").read_text(encoding="utf-8")
        )
    if (HERE / "approval.json").is_file():
        approval = json.loads((HERE / "approval.json").read_text(encoding="utf-8"))
        for signature in approval["signatures"]:
            name = f"approval.json, {signature['signer']}"
            envelopes[name] = signature["envelope"]
            said = json.loads(base64.b64decode(signature["envelope"]["payload"]))
            if (said["manifest"], said["signer"]) != (approval["manifest"], signature["signer"]):
                return [f"{name}: the envelope is of another approval"]
        facts = json.loads((HERE / "facts.json").read_text(encoding="utf-8"))
        if approval["manifest"]["model_sha256"] != facts["model"]["digest"]:
            return ["approval.json approves another model than the one that scored"]
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return not_computed("signatures: cryptography is not installed (pip install cryptography)")
    problems = []
    for name, envelope in envelopes.items():
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        if not envelope["signatures"]:
            problems.append(f"{name}: not signed")
        for signature in envelope["signatures"]:
            key = load_pem_public_key((HERE / "keys" / f"{signature['keyid']}.pem").read_bytes())
            if hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16] != signature["keyid"]:
                problems.append(f"keys/{signature['keyid']}.pem is another key")
                continue
            try:
                key.verify(base64.b64decode(signature["sig"]), message)
            except InvalidSignature:
                problems.append(f"{name}: the signature does not match")
    if not problems:
        print(f"✓ {len(envelopes)} signatures match; the pack is signed by key {signed_by}")
        if "--key" not in sys.argv:
            print(f"  compare that id with one the lender gave you by another way: verify.py --key {signed_by}")
    return problems


def bits(value):
    """What two equal values have in common: a number's bits, the text of what facts.json keeps as text."""
    if value is None:
        return None
    return struct.pack("<d", value) if isinstance(value, (int, float)) else str(value)


# Not asked whether this runs as a script: a changed byte in the question would answer it with exit code 0.
code = main()
check_itself()
sys.exit(code)
