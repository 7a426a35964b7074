"""The training loops of the paper and of PyTorch's MNIST example, which ours is compared with.

Both are written from their published descriptions. ``ReportLoop`` follows the paper's code
(Appendices B and D): torchvision's data set and transforms example by example, a progress bar
with the loss, and a `.npy` file that is read and written again at each step. The paper's code
fails without CUDA. On a CPU its loader arguments for CUDA are left out. ``ExampleLoop`` does the
same as PyTorch's example does it: without files, printing the loss now and then.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms
from tqdm import tqdm

from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.data.images import SPLIT_SEED, stratified_split
from study.data.sources import fetch
from study.training.models import ModifiedResNet18

TEST_BATCH_SIZE = 1000
LOG_INTERVAL = 10  # steps


class ReportCNN(nn.Module):
    """The paper's CNN (Appendix A)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(2304, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n, 10), of images of shape (n, 1, 28, 28)."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(self.dropout2(x))


def build_reference(model: str) -> nn.Module:
    """The paper's network in PyTorch's usual memory order."""
    if model == "cnn":
        return ReportCNN()
    # Appendix C. Our own network has the same layers.
    return ModifiedResNet18().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] -- torch's stub lacks this overload


def mnist(data_dir: Path, *, train: bool) -> datasets.MNIST:
    """The 60,000 training or the 10,000 test images, as the paper loads them."""
    fetch("mnist", data_dir)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    return datasets.MNIST(str(data_dir), train=train, transform=transform)


def loader_splits(data_dir: Path, examples: int) -> tuple[Subset, Subset]:
    """The first `examples` of the training split as a torchvision data set, and a validation set.

    The validation split is shortened in proportion.
    """
    whole = mnist(data_dir, train=True)
    train, validation = stratified_split(whole.targets.numpy(), NUM_TRAIN_EXAMPLES, SPLIT_SEED)
    evaluated = len(validation) * examples // NUM_TRAIN_EXAMPLES
    return Subset(whole, train[:examples].tolist()), Subset(whole, validation[:evaluated].tolist())


class ExampleLoop:
    """PyTorch's MNIST example with the paper's network and optimizer.

    Args:
        model: ``cnn`` or ``resnet18``.
        batch_size: Examples per step.
        data: The data sets to train and to evaluate on.
        device: ``cpu`` or ``cuda``.
    """

    cuda_workers = 1

    def __init__(
        self, model: str, batch_size: int, data: tuple[Dataset, Dataset], device: str
    ) -> None:
        on_cuda = {"num_workers": self.cuda_workers, "pin_memory": True} if device == "cuda" else {}
        train, test = data
        self.train_loader = DataLoader(train, batch_size=batch_size, shuffle=True, **on_cuda)
        self.test_loader = DataLoader(test, batch_size=TEST_BATCH_SIZE, **on_cuda)
        self.device = torch.device(device)
        self.model = build_reference(model).to(self.device)
        self.optimizer = torch.optim.Adadelta(self.model.parameters(), lr=1.0)
        self.scheduler = StepLR(self.optimizer, step_size=1, gamma=0.7)
        self.screen = io.StringIO()

    def train(self) -> None:
        """Train one epoch."""
        self.model.train()
        for i, (images, labels) in enumerate(self.train_loader):
            loss = self.step(images, labels)
            if i % LOG_INTERVAL == 0:
                print(i, len(self.train_loader), loss.item(), file=self.screen)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Make one update. Returns its loss."""
        images, labels = images.to(self.device), labels.to(self.device)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def evaluate(self) -> float:
        """Accuracy on the evaluated data."""
        self.model.eval()
        loss, right = 0.0, 0
        with torch.no_grad():
            for images, labels in self.test_loader:
                images, labels = images.to(self.device), labels.to(self.device)
                output = self.model(images)
                loss += F.cross_entropy(output, labels, reduction="sum").item()
                predicted = output.argmax(dim=1, keepdim=True)
                right += predicted.eq(labels.view_as(predicted)).sum().item()
        return right / len(self.test_loader.dataset)  # pyright: ignore[reportArgumentType] -- it has a length


class ReportLoop(ExampleLoop):
    """The paper's training loop."""

    cuda_workers = 6

    def train(self) -> None:
        """Train one epoch."""
        self.model.train()
        total = 0.0
        with (
            tempfile.TemporaryDirectory() as folder,
            tqdm(total=len(self.train_loader), file=self.screen) as bar,
        ):
            for i, (images, labels) in enumerate(self.train_loader, 1):
                loss = self.step(images, labels).cpu().detach().numpy()
                total += loss
                bar.set_postfix({"loss": f"{loss:.4f}", "average loss": f"{total / i:.4f}"})
                append_to_file(Path(folder) / "loss.npy", loss)
                bar.update()


def append_to_file(file: Path, value: np.ndarray) -> None:
    """Append a value as the paper's saveData does: read and write the whole pickled dictionary."""
    content = np.asarray(value)
    if file.exists():
        # Unpickling is safe here: this process wrote the file a moment ago.
        content = np.append(np.load(file, allow_pickle=True).item()["loss"], content)
    np.save(file, {"loss": content}, allow_pickle=True)  # pyright: ignore[reportArgumentType] -- as the paper does
