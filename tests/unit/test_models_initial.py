"""PiSSA's factors are those of the full singular value decomposition."""

import pytest
import torch

from fettle.models.initial import _main_directions


def matrix(rows: int, columns: int, spectrum: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(rows, columns, generator=generator)
    if spectrum == "flat":
        return made
    left, _, right = torch.linalg.svd(made, full_matrices=False)
    values = torch.arange(1, min(rows, columns) + 1).float() ** -1.5
    return (left * values) @ right


@pytest.mark.parametrize("spectrum", ["flat", "steep"])
@pytest.mark.parametrize(("rows", "columns"), [(48, 96), (96, 48), (48, 48)])
@pytest.mark.parametrize("rank", [1, 8, 48])
def test_the_product_is_the_best_of_its_rank(
    rows: int, columns: int, spectrum: str, rank: int
) -> None:
    weight_ED = matrix(rows, columns, spectrum)
    left, values, right = torch.linalg.svd(weight_ED.double(), full_matrices=False)
    best_ED = (left[:, :rank] * values[:rank]) @ right[:rank]
    b_ER, a_RD = _main_directions(weight_ED, rank, 2.0)
    assert b_ER.shape == (rows, rank)
    assert a_RD.shape == (rank, columns)
    torch.testing.assert_close(2.0 * b_ER @ a_RD, best_ED.float(), atol=2e-6, rtol=1e-5)
    # Each direction's share is halved between the two, and the largest comes first.
    root_R = (values[:rank] / 2.0).sqrt().float()
    torch.testing.assert_close(b_ER.norm(dim=0), root_R, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(a_RD.norm(dim=1), root_R, atol=1e-6, rtol=1e-5)


def test_what_a_weight_does_not_have_is_zero_not_noise() -> None:
    weight_ED = matrix(20, 30, "flat")
    weight_ED[3:] = weight_ED[:1]  # rank 3
    b_ER, a_RD = _main_directions(weight_ED, 6, 1.0)
    torch.testing.assert_close(b_ER @ a_RD, weight_ED, atol=1e-5, rtol=1e-5)
    assert (b_ER[:, 3:] == 0).all()
    assert (a_RD[3:] == 0).all()
    empty_ER, empty_RD = _main_directions(torch.zeros(4, 5), 2, 1.0)
    assert not empty_ER.any()
    assert not empty_RD.any()


def test_it_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    first = _main_directions(matrix(48, 96, "flat"), 8, 1.0)
    matrix(3, 3, "flat")
    assert torch.equal(torch.get_rng_state(), before)
    again = _main_directions(matrix(48, 96, "flat"), 8, 1.0)
    assert all(map(torch.equal, first, again))
