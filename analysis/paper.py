"""What the paper says: its numbers and claims, each with its place in the text.

Y. Xiao, "Handwritten digits (MNIST) recognition", INT305 Assignment 2, Xi'an
Jiaotong-Liverpool University. Times are in seconds, accuracies are fractions of the 10,000
test images, and losses are in nats per example.
"""

from __future__ import annotations

from dataclasses import dataclass

TITLE = "Handwritten digits (MNIST) recognition"
AUTHOR = "Yuliang Xiao"

DATASET = "mnist"
ACCURACY_IN_ABSTRACT = 0.9874  # abstract
ACCURACY = 0.9875  # II.A for batch sizes 512 and 32, II.B
RESNET_ACCURACY = 0.9938  # abstract, III
TEST_LOSS = 0.0412  # II.B
SECONDS = {512: 109.0, 32: 167.0}  # II.A
RESNET_SECONDS = 274.0  # III
BATCH_SIZE = 512  # of the final network; the default of Appendix C's code
BATCH_SIZES_IN_ABSTRACT = (64, 512)
BATCH_SIZES_IN_BODY = (32, 512)  # II.A, Fig. 2
CRITICAL_BATCH_SIZE = 8000  # II.A, after Goyal et al. (2017)
STABLE_EPOCH = 6  # II.B: "after the sixth epoch, the accuracy is stable"
CONFIDENT = 0.9  # II.B: Fig. 4 (a)-(d), "all the confidences are more than 0.9"
ERROR_CONFIDENCES = (0.40, 0.99)  # II.B: "the confidence belong to 40-99%"
CORRECT_CONFIDENCE = 0.99  # II.B: "the confidence for most correct examples"
NUM_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Statement:
    """A claim of the paper.

    Attributes:
        place: Where it is in the paper.
        quote: Its words, as printed.
        reported: Its number or statement, in a few words.
    """

    place: str
    quote: str
    reported: str


STATEMENTS = {
    "C1": Statement(
        "abstract; II.A",
        "the loss … when batch sizes are 64 and 512 / we set the batch size is 512 … 32",
        "64 and 512 (abstract); 32 and 512 (body)",
    ),
    "C2": Statement(
        "abstract; II.A, II.B",
        "the accuracy is 98.74% / the accuracy is 98.75%",
        f"{ACCURACY_IN_ABSTRACT:.2%} and {ACCURACY:.2%}",
    ),
    "C3": Statement(
        "II.A",
        "After testing these two models, we found both of their accuracy are 98.75%",
        f"batch 32 and 512 both reach {ACCURACY:.2%}",
    ),
    "C4": Statement(
        "II.A",
        "a smaller batch size will lead to a better generalization performance",
        "batch 32 generalizes better than 512",
    ),
    "C5": Statement(
        "II.A",
        "a large batch size leads to a faster speed of train: 109s … 167s",
        f"{SECONDS[512]:.0f} s against {SECONDS[32]:.0f} s "
        f"({SECONDS[512] / SECONDS[32]:.2f} times)",
    ),
    "C6": Statement(
        "II.A, Fig. 2",
        "a smoother loss curve … when batch size is 512, the curve … is smoother",
        "the loss of 512 is smoother than that of 32",
    ),
    "C7": Statement(
        "II.A",
        "the critical batch size is about 8000, which means in our train, a large batch "
        "size can be better",
        f"about {CRITICAL_BATCH_SIZE:,}",
    ),
    "C8": Statement(
        "II.A",
        "After dealing these data though Kalman filter, we found it has the same trend",
        "the same trend",
    ),
    "C9": Statement(
        "II.B, Fig. 3",
        "after the sixth epoch, the accuracy is stable",
        f"stable after epoch {STABLE_EPOCH}",
    ),
    "C10": Statement(
        "II.B",
        "The final loss of the test set is 0.0412",
        f"{TEST_LOSS} nats",
    ),
    "C11": Statement(
        "II.B, Fig. 4",
        "in Fig. 4(a)-(d), all the confidences are more than 0.9 … In Fig. 4(a)-(d), all "
        "the confidences are just about 0.5",
        "above 0.9 and about 0.5, both for Fig. 4 (a)-(d)",
    ),
    "C12": Statement(
        "II.B",
        "From these false examples, we found the confidence belong to 40-99%, which means"
        " this network is under fitting",
        "confidences of {:.0%} to {:.0%} show underfitting".format(*ERROR_CONFIDENCES),
    ),
    "C13": Statement(
        "II.B, Fig. 5",
        "the confidences are all more than 99% and even is 100%",
        "most above 99%, some even 100%",
    ),
    "C14": Statement(
        "II.B",
        "for most of false examples, they are difficult to classify by humanbeing",
        "most are difficult for people",
    ),
    "C15": Statement(
        "II.B",
        "the best way to solve this problem is expending the data set",
        "more data is the best remedy",
    ),
    "C16": Statement(
        "III",
        "a simple but effective way to prevent networks from over fitting is dropout … "
        "However, in our network, we used the method of batch normalization",
        "dropout is effective",
    ),
    "C17": Statement(
        "abstract, III",
        "the accuracy is 99.38%, higher than the old CNN",
        f"{RESNET_ACCURACY:.2%} against {ACCURACY:.2%}",
    ),
    "C18": Statement(
        "III, Fig. 7",
        "the new one is convergent more quickly and earier",
        "more quickly and earlier",
    ),
    "C19": Statement(
        "III",
        "the train time also more than the old one, which is 274",
        f"{RESNET_SECONDS:.0f} s ({RESNET_SECONDS / SECONDS[512]:.1f} times the CNN's)",
    ),
    "C20": Statement(
        "III",
        "The shortcut connections in equation (C) does not result in other parameter and "
        "computation complexity",
        "shortcuts add no parameters",
    ),
    "C21": Statement(
        "III, last sentence",
        "since this task is so simple and the data set is small, the advantage of our "
        "modified ResNet18, the accuracy is increased",
        "'the advantage … , the accuracy is increased'",
    ),
}
