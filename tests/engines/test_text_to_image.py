"""Text-to-image folders and autoencoders with the networks of diffusers themselves, beside what the library makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core import brought, datasets, jobs, latent, runs, worker
from core.brought import autoencoder, text_to_image
from core.brought.text_to_image import TextToImageSampling
from core.catalog import UserError
from core.text import Tokens
from tests import text_to_image as small


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Needs the library, and does jobs at once, in this process."""
    pytest.importorskip("diffusers")
    monkeypatch.setattr(jobs, "spawn", worker.work)


@pytest.fixture
def folder(tmp_path):
    """A small folder of the library's own networks, and these."""
    nets = small.write_folder(tmp_path / "sd")
    return tmp_path / "sd", nets


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_a_picture_is_the_one_that_the_library_draws_by_its_own_scheduler(folder, predicts):
    from diffusers import DDIMScheduler

    place, nets = folder
    said = small.SCHEDULER | {"prediction_type": predicts}
    (place / "scheduler/scheduler_config.json").write_text(json.dumps(said), encoding="utf-8")
    digits = datasets.load("digits")
    opened = text_to_image.build(
        text_to_image.TextToImageConfig(), brought.read(place), brought.spec_of(digits), (), None
    )
    model = opened.model
    sampling = TextToImageSampling(prompt="a cat", negative="a dog", steps=8)
    z = model.latent(range(3), 0, sampling)
    theirs = DDIMScheduler.from_config(
        said, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    theirs.set_timesteps(8)
    x = z.view(3, 4, 4, 4)
    context, away = (
        nets.text.eval()(torch.tensor([model.tokens.row(text)] * 3)) for text in ("a cat", "a dog")
    )
    with torch.no_grad():
        for step in theirs.timesteps:
            towards, other = (nets.unet.eval()(x, step, c).sample for c in (context, away))
            x = theirs.step(other + 7.5 * (towards - other), step, x, eta=0).prev_sample
        picture = (nets.vae.eval().decode(x / 0.5).sample / 2 + 0.5).clamp(0, 1)
        assert torch.allclose(model.decode(z, None, sampling), picture, atol=1e-5)
        mean = nets.vae.encode(picture * 2 - 1).latent_dist.mean * 0.5
        assert torch.allclose(model.codec.encode(picture)[0], mean, atol=1e-5)


def test_the_words_and_the_text_encoder_are_those_of_transformers(folder):
    transformers = pytest.importorskip("transformers")
    _, nets = folder
    tokenizer = transformers.CLIPTokenizer(vocab=small.VOCABULARY, merges=small.MERGES)
    tokens = Tokens(small.VOCABULARY, small.MERGES, 12)
    for text in ("A  cat", "dog's ½", "", "ΟΔΟΣ", "x_y-2"):
        theirs = tokenizer(text, padding="max_length", max_length=12)["input_ids"]
        assert tokens.row(text) == theirs
    config = transformers.CLIPTextConfig(
        **{name: value for name, value in small.TEXT.items() if name != "architectures"}
    )
    encoder = transformers.CLIPTextModel(config).eval()
    encoder.load_state_dict(nets.text.state_dict())
    rows = torch.tensor([tokens.row("a cat"), tokens.row("dog")])
    mine = nets.text.eval()(rows)
    assert torch.allclose(encoder(input_ids=rows).last_hidden_state, mine, atol=1e-5)


def test_a_folder_of_the_library_becomes_a_run_and_a_damaged_one_does_not(folder, monkeypatch):
    place, nets = folder
    digits = datasets.load("digits")
    kept = brought.keep("Small", brought.read(place), {}, digits)
    run = jobs.get(kept.id)
    assert run.status == "finished", run.message
    opened = runs.open_model(run)
    for name, value in nets.unet.state_dict().items():
        assert torch.equal(opened.model.unet.state_dict()[name], value)
    sampling = TextToImageSampling(prompt="cat", second="dog", steps=8)
    space = latent.open_space(opened, sampling)
    points = space.draw([0, 1])
    # a random autoencoder keeps little of a picture, so the way back begins at the end of the steps themselves
    ends = []
    decoded = opened.model.codec.decode
    monkeypatch.setattr(opened.model.codec, "decode", lambda z: ends.append(z) or decoded(z))
    x = space.decode(points)
    monkeypatch.setattr(opened.model.codec, "encode", lambda x: (ends[0], None))
    back = space.encode(x)
    assert torch.allclose(back, points, atol=0.05)
    assert torch.allclose(space.decode(back), x, atol=0.02)
    file = place / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(UserError, match=r"safetensors|cut off|more numbers"):
        text_to_image.build(
            text_to_image.TextToImageConfig(), brought.read(place), opened.spec, (), None
        )


def test_an_old_autoencoder_with_other_names_of_its_attention_opens(tmp_path):
    net = small.made(autoencoder.AUTOENCODER, small.VAE, 0)
    small.write_part(tmp_path / "new", net, small.VAE)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = net.state_dict()
    for now, then in old.items():
        state = {name.replace(now, then): value for name, value in state.items()}
    assert any(".query." in name for name in state)
    small.write_tensors(Path(tmp_path / "new/diffusion_pytorch_model.safetensors"), state)
    digits = datasets.load("digits")
    config = autoencoder.AutoencoderConfig()
    opened = autoencoder.build(
        config, brought.read(tmp_path / "new"), brought.spec_of(digits), (), None
    )
    x = torch.rand(2, 1, 8, 8)
    mean = net.eval().encode(x * 2 - 1).latent_dist.mean * 0.5
    assert torch.allclose(opened.model.encode(x, None, opened.usual).view_as(mean), mean, atol=1e-5)
