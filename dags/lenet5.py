"""The DAG `lenet5`: LeNet-5 in several frameworks under the same conditions, each version certified, measured and released."""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param

from dags.form import whole_number
from dags.lifecycle import add_tasks, frameworks_param, release_params
from dags.steps import LARGEST, MARGIN, OWNER, TRAINING, common, docs_url
from train_server.lenet5.model import SCHEDULES
from windtunnel.model import find_model
from windtunnel.settings import load_settings

DOC = f"""# LeNet-5, three ways

Trains LeNet-5 with libtorch in C++, PyTorch and TensorFlow **under the same conditions**, and certifies that their training is equivalent.
Loads each version on a real server beside the champion, checks its answers, and measures its speed.
Promotes a version only if its answers are correct and it is not worse than the champion; otherwise users keep what they have.

Press *Trigger* to start a run. Its tab *Report* shows the result; a skipped task has the reason in its log and in its XCom `skipped`.

Read more: [parameters and training]({docs_url("training.md")}), [each task of a run]({docs_url("releases.md#the-tasks-of-a-run")}),
[releases and rollback]({docs_url("releases.md")}), [terms]({docs_url("concepts.md")}).
"""

LENET5 = find_model("lenet5")  # with the frameworks that other packages add
PARAMS = {
    "frameworks": frameworks_param(LENET5, "The frameworks to train with. native: C++ with hand-written gradients."),
    "dataset": Param(
        "auto",
        title="Data set",
        type="string",
        enum=["auto", "mnist", "fashion_mnist"],
        values_display={"auto": "MNIST if it is available, else Fashion-MNIST", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"},
        section=TRAINING,
        description="The images to train and test with.",
    ),
    "samples": whole_number(None, "Training images", "Number of training images. Empty: all."),
    "epochs": whole_number(5, "Epochs", "Passes through the training images, 1 to 1,000.", most=1000),
    "learning_rate": Param(
        0.01,
        title="Learning rate",
        type="number",
        exclusiveMinimum=0,
        maximum=LARGEST,
        section=TRAINING,
        description="The learning rate of Adam, at the peak of the schedule. Above 0.03, rounding decides whether a training succeeds.",
    ),
    "batch_size": whole_number(
        64, "Batch size", "Images per training step, 1 to 60,000, at most the number of training images.", most=60_000
    ),
    "schedule": Param(
        "cosine",
        title="Schedule of the learning rate",
        type="string",
        enum=list(SCHEDULES),
        section=TRAINING,
        description="cosine: warm-up during the first tenth of the steps, then cosine decay to zero.",
    ),
    "seed": whole_number(1, "Seed", "Seed for the initial weights, the choice of images and their order.", least=0),
    "threads": whole_number(1, "Threads", "Threads of each trainer, 1 to 256. More help only on idle cores.", most=256),
    **release_params(MARGIN),
}

CRON = load_settings().schedule
# Of its own accord, Airflow would also start a run at once on a new platform, in the first tenth of a month: beside the user's first run.
SCHEDULE = CronTriggerTimetable(CRON, timezone="UTC", run_immediately=timedelta()) if CRON else None

with DAG(
    "lenet5",
    description="Train LeNet-5 with libtorch, PyTorch and TensorFlow under the same conditions, and release it",
    doc_md=DOC,
    schedule=SCHEDULE,
    params=PARAMS,
    **common(OWNER, "images"),
) as dag:
    add_tasks(LENET5, fields=("samples", "epochs", "learning_rate", "batch_size", "schedule", "seed", "threads"))
