"""A custom job for Vertex AI."""

from __future__ import annotations

from pathlib import PurePosixPath

from gemtune.errors import GemtuneError, listed
from gemtune.launch_files.order import Order, remark
from gemtune.launch_files.yaml_text import yaml_text

# (GPU, how many) -> the machine that has them, and what Vertex AI calls them. Other counts are not offered.
MACHINES = {
    ("T4", 1): ("n1-standard-8", "NVIDIA_TESLA_T4"),
    ("T4", 2): ("n1-standard-16", "NVIDIA_TESLA_T4"),
    ("T4", 4): ("n1-standard-32", "NVIDIA_TESLA_T4"),
    ("L4", 1): ("g2-standard-8", "NVIDIA_L4"),
    ("L4", 2): ("g2-standard-24", "NVIDIA_L4"),
    ("L4", 4): ("g2-standard-48", "NVIDIA_L4"),
    ("L4", 8): ("g2-standard-96", "NVIDIA_L4"),
    ("A100", 1): ("a2-highgpu-1g", "NVIDIA_TESLA_A100"),
    ("A100", 2): ("a2-highgpu-2g", "NVIDIA_TESLA_A100"),
    ("A100", 4): ("a2-highgpu-4g", "NVIDIA_TESLA_A100"),
    ("A100", 8): ("a2-highgpu-8g", "NVIDIA_TESLA_A100"),
    ("H100", 8): ("a3-highgpu-8g", "NVIDIA_H100_80GB"),
}
CPU_MACHINE = "n2-standard-{cpus}"
CPUS = (2, 4, 8, 16, 32, 48, 64, 80)  # of which there are such machines

# An entry of a job's environment has a name and a value, and no reference to a secret: the job reads its tokens from
# Secret Manager when it starts, with its own service account. $1: names of secrets; $2: a folder; then the command.
START = """\
import base64, json, os, sys, urllib.error, urllib.request

def read(url, **headers):
    return json.load(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30))

metadata = "http://" + os.environ.get("GCE_METADATA_HOST", "metadata.google.internal") + "/computeMetadata/v1/"
manager = os.environ.get("SECRET_MANAGER", "https://secretmanager.googleapis.com") + "/v1/projects/"
account = read(metadata + "instance/service-accounts/default/token", **{"Metadata-Flavor": "Google"})
for name in sys.argv[1].split(","):
    url = manager + os.environ["CLOUD_ML_PROJECT_ID"] + "/secrets/" + name + "/versions/latest:access"
    try:
        secret = read(url, Authorization="Bearer " + account["access_token"])
    except urllib.error.HTTPError as error:
        print("no secret " + name + " for this job (HTTP " + str(error.code) + ")", file=sys.stderr, flush=True)
        continue
    os.environ[name] = base64.b64decode(secret["payload"]["data"]).decode()
os.chdir(sys.argv[2])
os.execvp(sys.argv[3], sys.argv[3:])
"""


def custom_job(order: Order) -> str:
    """The CustomJobSpec that `gcloud ai custom-jobs create --config` takes."""
    size, bucket = order.size, order.shared.removeprefix("gs://").strip("/")
    folder = str(PurePosixPath("/gcs") / bucket)
    pool = {
        "machineSpec": _machine(order),
        "replicaCount": "1",
        "containerSpec": {
            "imageUri": order.image,
            "command": ["python3", "-c", START],
            "args": [",".join(order.secrets), folder, *order.command()],
        },
    }
    job = {
        "workerPoolSpecs": [pool],
        "scheduling": {"timeout": f"{size.seconds}s", "restartJobOnWorkerRestart": True, "strategy": "SPOT"},
        "baseOutputDirectory": {"outputUriPrefix": f"gs://{bucket}/vertex"},
    }
    said = remark(
        f"Run it with: gcloud ai custom-jobs create --region=REGION --display-name={order.name} --config=FILE, and "
        "--service-account=ACCOUNT.",
        f"The project's folder is gs://{bucket}, which Vertex AI mounts as {folder} on every machine: the file system "
        "they share. A machine that is taken away is replaced, and gemtune goes on from its newest checkpoint.",
        f"Tokens are in Secret Manager, and in no file, under these names: {', '.join(order.secrets)}. The service "
        "account needs roles/secretmanager.secretAccessor; what is not needed may be left out.",
    )
    return said + yaml_text(job)


def _machine(order: Order) -> dict[str, object]:
    size = order.size
    if not size.gpus:
        cpus = next((count for count in CPUS if count >= size.cpus), CPUS[-1])
        return {"machineType": CPU_MACHINE.format(cpus=cpus)}
    if (size.gpu, size.gpus) not in MACHINES:
        there = listed(f"{count} x {gpu}" for gpu, count in MACHINES)
        raise GemtuneError(f"--gpus {size.gpus} --gpu {size.gpu}: Vertex AI has no such machine; choose of {there}")
    machine, gpu = MACHINES[size.gpu, size.gpus]
    return {"machineType": machine, "acceleratorType": gpu, "acceleratorCount": size.gpus}
