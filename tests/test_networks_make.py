# SPDX-License-Identifier: Apache-2.0
"""Networks by name."""

import pytest
import torch

from monai_multirater.networks import OrdinalFPN, OrdinalUNet, make_network

WHAT = {"spatial_dims": 2, "in_channels": 3, "raters": 4, "family": "corn"}


@pytest.mark.parametrize(("network", "options"), [(OrdinalUNet, {"channels": [4, 8]}), (OrdinalFPN, None)])
def test_a_name_and_options_make_the_network_that_the_class_makes(network, options):
    torch.manual_seed(0)
    made = make_network(network.__name__, **WHAT, options=options)
    torch.manual_seed(0)
    direct = network(**WHAT, **(options or {}))
    assert type(made) is network
    torch.testing.assert_close(made.state_dict(), direct.state_dict(), rtol=0, atol=0)


def test_a_dotted_path_names_a_network_of_the_user():
    made = make_network("monai_multirater.networks.unet.OrdinalUNet", **WHAT, options={"channels": [4, 8]})
    assert made(torch.zeros(1, 3, 9, 9)).shape == (1, 4, 9, 9)


@pytest.mark.parametrize("name", ["UNet", "no_such_package.Network", "monai_multirater.networks.nothing", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match=r"'name' must be one of \['OrdinalFPN', 'OrdinalUNet'\] or"):
        make_network(name, **WHAT)


def test_an_option_that_the_network_does_not_have_is_refused():
    with pytest.raises(TypeError, match="backbone"):
        make_network("OrdinalUNet", **WHAT, options={"backbone": "resnet18"})


def test_a_module_that_fails_to_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_network.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"'broken_network.Net' cannot be imported: .*no_such_package"):
        make_network("broken_network.Net", **WHAT)


def test_what_makes_no_network_is_refused():
    with pytest.raises(TypeError, match=r"'builtins.dict' made a dict, which is no torch.nn.Module"):
        make_network("builtins.dict", **WHAT)
