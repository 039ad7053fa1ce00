"""Lloyd-Max levels of the standard normal, as integers: the committed constants of `Eden`.

The levels of b bits minimise the mean squared error of a standard normal variable among all symmetric tables of 2^b levels
(Lloyd 1982, Max 1960); a test computes them again by Lloyd's iteration. They are rounded to multiples of 1/`UNIT`, which costs
3 % more error at eight bits and less elsewhere, and buys sums without rounding: `MAX_BLOCK` levels of at most 2357 add up to
less than 2^24, which float32 holds exactly, in any order of additions.
"""

from __future__ import annotations

__all__ = ["POSITIVE_LEVELS", "UNIT"]

UNIT = 512
"""What the integers below count as one."""

# fmt: off
POSITIVE_LEVELS: dict[int, tuple[int, ...]] = {
    1: (512,),
    2: (232, 773),
    3: (125, 387, 688, 1102),
    4: (66, 199, 336, 482, 643, 828, 1059, 1399),
    5: (34, 101, 170, 239, 310, 383, 458, 537, 620, 710, 807, 915, 1039, 1187, 1378, 1669),
    6: (
        17, 51, 86, 120, 155, 190, 225, 260, 296, 333, 370, 407, 446, 485, 525, 567,
        609, 653, 699, 747, 797, 849, 905, 965, 1029, 1099, 1177, 1265, 1368, 1494, 1659, 1917,
    ),
    7: (
        9, 26, 43, 60, 78, 95, 112, 130, 147, 165, 182, 200, 218, 235, 253, 271,
        289, 308, 326, 344, 363, 382, 401, 420, 440, 459, 479, 499, 519, 540, 561, 582,
        604, 625, 648, 670, 694, 717, 741, 766, 792, 818, 844, 872, 900, 929, 960, 991,
        1024, 1059, 1095, 1133, 1173, 1215, 1261, 1310, 1364, 1423, 1489, 1565, 1655, 1765, 1912, 2145,
    ),
    8: (
        4, 13, 22, 30, 39, 48, 56, 65, 74, 82, 91, 100, 108, 117, 126, 135,
        143, 152, 161, 170, 178, 187, 196, 205, 214, 223, 232, 241, 250, 259, 268, 277,
        286, 295, 304, 313, 323, 332, 341, 351, 360, 369, 379, 388, 398, 407, 417, 427,
        436, 446, 456, 466, 476, 486, 496, 506, 516, 527, 537, 547, 558, 569, 579, 590,
        601, 612, 623, 634, 645, 656, 668, 679, 691, 703, 715, 727, 739, 751, 764, 776,
        789, 802, 815, 828, 842, 856, 869, 884, 898, 912, 927, 942, 958, 973, 989, 1006,
        1022, 1039, 1057, 1074, 1093, 1111, 1130, 1150, 1171, 1192, 1213, 1236, 1259, 1283, 1308, 1335,
        1362, 1391, 1421, 1453, 1488, 1524, 1564, 1606, 1653, 1705, 1763, 1831, 1911, 2010, 2144, 2357,
    ),
}
# fmt: on
"""The positive half of each table, ascending, by the number of bits; with one bit any level serves, for the scale is fitted."""
