"""Text-to-image models and autoencoders from outside: texts, checked networks, steps, mixtures of texts."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from core import brought, datasets, descent, jobs, latent, runs, worker
from core.__main__ import main
from core.brought import autoencoder, text_to_image
from core.brought.diffusers import read_schedule
from core.brought.text_to_image import NoiseSchedule, TextToImageSampling
from core.catalog import UserError
from core.latent import repair
from core.models import Prompts
from core.text import TextEncoder, TextShape, Tokens
from core.text.tokens import read_merges, read_vocabulary
from core.training.batches import Split
from core.weights import Package, lora
from core.weights.architecture import Architecture
from tests import text_to_image as small


@pytest.fixture(autouse=True)
def done_here(monkeypatch):
    """Does jobs at once, in this process."""
    monkeypatch.setattr(jobs, "spawn", worker.work)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The package of a small folder, its networks, and the model that is made of it for digits."""
    small.stand_in(monkeypatch)
    nets = small.write_folder(tmp_path / "sd")
    package = brought.read(tmp_path / "sd")
    digits = datasets.load("digits")
    opened = text_to_image.build(
        text_to_image.TextToImageConfig(), package, brought.spec_of(digits), digits.classes, None
    )
    return package, nets, opened


# --- texts ----------------------------------------------------------------------------------------------------------


def test_texts_become_the_tokens_that_the_library_of_clip_makes_of_them():
    tokens = Tokens(small.VOCABULARY, small.MERGES, 14)
    theirs = {  # rows of transformers 5.24 for this vocabulary, without the filling
        "A  cat": [353, 513],
        "DOG's cat!": [515, 39, 371, 513, 289],
        "½ 24": [194, 445, 306, 308],
        "ΟΔΟΣ é": [206, 191, 206, 180, 206, 191, 207, 387, 195, 425],
        "<|endoftext|>a": [517, 353],
    }
    for text, expected in theirs.items():
        filling = [517] * (13 - len(expected))
        assert tokens.row(text) == [516, *expected, *filling]
    assert tokens.row("")[1:] == [517] * 13
    with pytest.raises(UserError, match=r"at most 12 tokens, parts of words .* got 13: 'bbbb"):
        tokens.row("b" * 13)
    with pytest.raises(UserError, match="at most 1,000 characters, got 2,000"):
        tokens.row("cat " * 500)


def test_the_text_encoder_is_a_transformer_that_looks_backwards_as_torch_writes_it():
    torch.manual_seed(0)
    shape = TextShape(50, 16, 32, 2, 4, 9, "gelu")
    mine = TextEncoder(shape).eval()
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for block, other in zip(mine.encoder["layers"], theirs.layers, strict=True):
        attention = block.self_attn
        with torch.no_grad():
            for name in ("weight", "bias"):
                parts = [getattr(attention[f"{each}_proj"], name) for each in "qkv"]
                getattr(other.self_attn, f"in_proj_{name}").copy_(torch.cat(parts))
        other.self_attn.out_proj.load_state_dict(attention["out_proj"].state_dict())
        for own, its in (("fc1", "linear1"), ("fc2", "linear2")):
            getattr(other, its).load_state_dict(block.mlp[own].state_dict())
        for own, its in (("layer_norm1", "norm1"), ("layer_norm2", "norm2")):
            getattr(other, its).load_state_dict(getattr(block, own).state_dict())
    rows = torch.randint(50, (3, 9))
    h = F.embedding(rows, mine.embeddings["token_embedding"].weight)
    h = h + mine.embeddings["position_embedding"].weight
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    expected = mine.final_layer_norm(theirs(h, mask))
    assert torch.allclose(mine(rows), expected, atol=1e-5)
    with pytest.raises(ValueError, match="3 heads cannot share 16 numbers evenly"):
        TextShape(hidden_size=16, num_attention_heads=3)


def test_a_vocabulary_that_is_none_is_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"Line 2 of merges\.txt is no pair of tokens, got 'a b c'"):
        read_merges("#version\na b c")
    with pytest.raises(UserError, match="must number its tokens from 0"):
        read_vocabulary({"a": "first"})
    with pytest.raises(UserError, match=r"has no token '<\|startoftext\|>'"):
        Tokens({"a": 0}, [])


# --- networks of libraries ------------------------------------------------------------------------------------------


def test_a_network_is_made_only_of_a_description_that_is_known_and_of_all_its_tensors(tmp_path):
    line = Architecture(
        "Line",
        lambda: lambda wide, deep: nn.Sequential(*(nn.Linear(wide, wide) for _ in deep)),
        choices={"deep": (1, 2)},
        bounds={"wide": (1, 10**6)},
        stem="line",
        renamed={".old.": "."},
        ignored=("position_ids",),
    )
    (tmp_path / "config.json").write_text('{"_class_name": "Line", "wide": 3, "deep": [1, 1]}')
    config = line.read(brought.read(tmp_path))
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    state = net.state_dict()

    def built(**files):
        names = {
            f"{name.replace('_', '-')}.safetensors": save(file) for name, file in files.items()
        }
        return line.built(config, Package("line", names))

    halves = [{n: v for n, v in state.items() if n[0] == k} for k in "01"]
    got = built(line_00001_of_00002=halves[0], line_00002_of_00002=halves[1]).state_dict()
    assert all(torch.equal(got[name], state[name]) for name in state)
    old = {name.replace(".", ".old."): value.half() for name, value in state.items()}
    old["x.position_ids"] = torch.arange(4)
    assert built(line=old)[0].weight.dtype == torch.float32
    for change, said in (
        ({"0.bias": None}, r"1 of its 4 tensors are missing, the first is '0\.bias'"),
        ({"2.bias": torch.ones(3)}, r"'2\.bias' belongs to no part of it"),
        ({"0.bias": torch.ones(4)}, r"'0\.bias' must have the shape \(3,\), got \(4,\)"),
    ):
        with pytest.raises(UserError, match=said):
            built(line={n: v for n, v in (state | change).items() if v is not None})
    with pytest.raises(UserError, match="holds 1 of the 2 parts of its weights"):
        built(line_00001_of_00002=halves[0])
    with pytest.raises(UserError, match="asks for 1,000,001 million numbers"):  # no memory is taken
        line.count({"wide": 10**6, "deep": [1]})
    (tmp_path / "config.json").write_text('{"_class_name": "Other", "wide": 3}')
    with pytest.raises(UserError, match=r"describes 'Other', and Line is needed there"):
        line.read(brought.read(tmp_path))


@pytest.mark.parametrize("style", ["kohya", "peft", "diffusers"])
def test_a_lora_changes_the_weights_as_the_paper_says_in_the_names_of_every_program(style):
    torch.manual_seed(0)
    net = nn.ModuleDict({"attn": nn.ModuleDict({"to_out": nn.ModuleList([nn.Linear(6, 4)])}),
                         "conv": nn.Conv2d(3, 5, 3)})  # fmt: skip
    before = {name: value.clone() for name, value in net.state_dict().items()}
    a, b, c, d = (
        torch.randn(2, 6),
        torch.randn(4, 2),
        torch.randn(2, 3, 3, 3),
        torch.randn(5, 2, 1, 1),
    )
    file = {
        "kohya": {
            "lora_unet_attn_to_out_0.lora_down.weight": a, "lora_unet_attn_to_out_0.lora_up.weight": b,
            "lora_unet_attn_to_out_0.alpha": torch.tensor(1.0),
            "lora_unet_conv.lora_down.weight": c, "lora_unet_conv.lora_up.weight": d,
        },
        "peft": {
            "unet.attn.to_out.0.lora_A.weight": a, "unet.attn.to_out.0.lora_B.weight": b / 2,
            "unet.conv.lora_A.weight": c, "unet.conv.lora_B.weight": d,
        },
        "diffusers": {
            "unet.attn.processor.to_out_lora.down.weight": a, "unet.attn.processor.to_out_lora.up.weight": b / 2,
            "unet.conv.lora.down.weight": c, "unet.conv.lora.up.weight": d,
        },
    }[style]  # fmt: skip
    names = {"unet": ("unet", "lora_unet")}
    changes = lora.read(save(file), {"unet": net}, names)
    lora.add(changes, {"unet": net}, 0.5)
    after = net.state_dict()
    key = "attn.to_out.0.weight"
    assert torch.allclose(after[key], before[key] + 0.5 * (1 / 2) * (b @ a), atol=1e-6)
    x = torch.randn(1, 3, 8, 8)
    through = F.conv2d(F.conv2d(x, c), d)  # the change of a convolution is two in a row
    plain = F.conv2d(x, before["conv.weight"], before["conv.bias"])
    assert torch.allclose(net["conv"](x), plain + 0.5 * through, atol=1e-4)


def test_a_lora_that_does_not_fit_is_refused_and_changes_nothing():
    net = nn.ModuleDict({"k": nn.Linear(6, 4)})
    before = net["k"].weight.clone()
    down, up = torch.ones(2, 6), torch.ones(4, 2)
    for file, said in (
        ({"lora_unet_q.lora_down.weight": down}, "changes a layer that the model does not have"),
        ({"lora_unet_k.dora_scale": up}, "is no part of a LoRA that is known here"),
        ({"lora_unet_k.lora_down.weight": down}, "'k' has only one of its two factors"),
        ({"lora_unet_k.lora_down.weight": down, "lora_unet_k.lora_up.weight": torch.ones(4, 3)},
         r"must have the shapes \(r, 6\) and \(4, r\), got \(2, 6\) and \(4, 3\)"),
        ({"lora_unet_k.lora_down.weight": down, "unet.k.lora_A.weight": down + 1}, "a second time"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            lora.read(save(file), {"unet": net}, {"unet": ("unet", "lora_unet")})
    notes = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8.0, "unet.r": 2})}
    (change,) = lora.read(
        save({"unet.k.lora_A.weight": down, "unet.k.lora_B.weight": up}, notes),
        {"unet": net}, {"unet": ("unet", "lora_unet")},
    )  # fmt: skip
    assert change.alpha == 8 and torch.equal(net["k"].weight, before)


# --- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
def test_whatever_a_network_predicts_a_step_is_that_of_the_paper(predicts):
    described = small.SCHEDULER | {"prediction_type": predicts}
    schedule = NoiseSchedule(read_schedule(described, "s"))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    times, numbers = schedule.grid(4)
    assert numbers == [999, 749, 499, 249] and times[-1] == 1
    data, fresh = torch.randn(2, 3), torch.randn(2, 3)
    for t, number in zip(times, numbers, strict=False):
        a, s = kept[number] ** 0.5, (1 - kept[number]) ** 0.5
        assert t / (1 - t) == pytest.approx(a / s) and schedule.number(t) == pytest.approx(number)
        said = {"epsilon": fresh, "v_prediction": a * fresh - s * data, "sample": data}[predicts]
        seen = []

        def answer(state, at, seen=seen, said=said):
            seen.append(state)
            return said

        v = schedule.velocity(t * data + (1 - t) * fresh, t, answer)
        assert torch.allclose(seen[0], (a * data + s * fresh).float(), atol=1e-4)
        assert torch.allclose(v, data - fresh, atol=1e-3)
    ends = read_schedule(described | {"rescale_betas_zero_snr": True}, "s")
    times = NoiseSchedule(ends).times
    assert times[-1] < 1e-3 and times[0] == pytest.approx(schedule.times[0], abs=1e-3)


def test_a_text_is_what_is_drawn_and_two_texts_are_mixed(tiny):
    _, nets, opened = tiny
    model = opened.model
    assert isinstance(model, Prompts) and model.classes == 0 and opened.classes
    sampling = TextToImageSampling(prompt="cat", second="dog", steps=4, guidance=3)
    z = model.latent(range(3), 7, sampling)
    cat, dog = (model.decode(z, torch.tensor([k] * 3), sampling) for k in (0, 1))
    alone = TextToImageSampling(prompt="dog", steps=4, guidance=3)
    assert not torch.allclose(cat, dog, atol=1e-4)
    assert torch.equal(model.decode(z, None, alone), dog)
    half = model.decode(z, torch.tensor([[0.5, 0.5]] * 3), sampling)
    assert (half - (cat + dog) / 2).abs().max() < (cat - dog).abs().max()
    # one of three is the same by itself, and the steps are those of DDIM by hand
    assert torch.allclose(model.sample([1], None, 7, alone), dog[1:2], atol=1e-5)
    context, away = (nets.text.eval()(torch.tensor([model.tokens.row(t)])) for t in ("dog", ""))
    x = z[:1].view(1, 4, 4, 4)
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    for number, after in ((999, 749), (749, 499), (499, 249), (249, None)):
        step = torch.tensor([float(number)])
        towards, other = (nets.unet(x, step, c)[0] for c in (context, away))
        fresh = other + 3 * (towards - other)
        data = (x - (1 - kept[number]) ** 0.5 * fresh) / kept[number] ** 0.5
        now = 1.0 if after is None else kept[after]
        x = now**0.5 * data + (1 - now) ** 0.5 * fresh
    picture = (nets.vae.decoder(x.float() / 0.5) / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(picture, dog[:1], atol=1e-4)


def test_the_noise_of_a_picture_makes_it_again_however_strong_the_guidance(tiny):
    model = tiny[2].model
    sampling = TextToImageSampling(prompt="cat", steps=10, guidance=7.5)
    z = model.latent(range(4), 0, sampling)
    x = model.decode(z, None, sampling)
    z = model.encode(x, None, sampling)
    # what the autoencoder keeps of the picture, and the steps must give it back
    through = model.codec.decode(model.codec.encode(x)[0])
    assert torch.allclose(model.decode(z, None, sampling), through, atol=2e-3)
    *_, last = model.trace(range(2), None, 0, sampling)
    assert torch.allclose(last, x[:2], atol=1e-5)


def test_a_plane_leads_from_text_to_text_and_from_image_to_image(tiny):
    opened = tiny[2]
    sampling = TextToImageSampling(prompt="cat", second="dog", steps=3)
    space = latent.open_space(opened, sampling)
    assert space.classes == 2 and space.prompted and latent.first_plane(space) == "prompts"
    top, other = space.draw([0, 1], None, 5)
    plane = latent.prompts_plane(space, top, other)
    x = space.decode(plane.points([[-1, 0], [1, 0], [-1, 1]]))
    z = opened.model.latent([0, 1], 5, sampling)
    first, second = (opened.model.decode(z, torch.tensor([k, k]), sampling) for k in (0, 1))
    assert torch.allclose(x[0], first[0], atol=1e-4) and torch.allclose(x[1], second[0], atol=1e-4)
    length = z[0].norm() / z[1].norm()  # the plane stays on the sphere of the first
    below = opened.model.decode(z[1:] * length, torch.tensor([0]), sampling)[0]
    assert torch.allclose(x[2], below, atol=1e-4)
    points = latent.blended(space, [0, 1], 5, 3)
    assert torch.equal(points[:3, -2:], torch.tensor([[1, 0], [0.5, 0.5], [0, 1]]))
    assert torch.equal(points[3, :-2], z[1])
    plain = latent.open_space(opened, TextToImageSampling(prompt="cat", steps=3))
    assert plain.classes == 0 and latent.first_plane(plain) == "anchors" and plain.side in (3, 5, 7)
    with pytest.raises(
        UserError, match=r"A plane between two prompts needs .* Write a second prompt"
    ):
        latent.prompts_plane(plain, top[:-2], other[:-2])


# --- brought and opened ---------------------------------------------------------------------------------------------


def test_a_folder_is_known_by_its_content_and_becomes_a_run_that_draws_the_same(tiny, tmp_path):
    package, _, opened = tiny
    origin = brought.origin_of(package)
    assert origin.name == "text_to_image"
    seen = origin.see(package)
    assert seen.parameters == sum(p.numel() for p in opened.model.parameters())
    assert (
        "It was taught on pictures of 8 px" in seen.notes[0] and "multiple of 4 px" in seen.notes[1]
    )
    kept = brought.keep("Small", package, {"prompt": "a cat"}, datasets.load("digits"))
    run = jobs.get(kept.id)
    assert run.status == "finished", run.message
    again = runs.open_model(run)
    sampling = TextToImageSampling(steps=3)
    assert again.model.texts(sampling) == ("a cat",)
    said = sampling.model_copy(update={"prompt": "a cat"})
    assert torch.equal(
        again.model.sample(range(3), None, 0, sampling),
        opened.model.sample(range(3), None, 0, said),
    )
    out = tmp_path / "plane.npz"
    texts = ["--set", "prompt=cat", "--set", "second=dog", "--set", "steps=2"]
    assert main(["sample", "Small", "-n", "2", "--blend", "3", *texts, "--out", str(out)]) == 0
    x = np.load(out)["x"]  # image by image, from text to text
    way = TextToImageSampling(prompt="cat", second="dog", steps=2)
    ends = [opened.model.sample([1], torch.tensor([k]), 0, way)[0].numpy() for k in (0, 1)]
    assert x.shape == (6, 1, 8, 8)
    assert np.abs(x[3] - ends[0]).max() < 0.003 and np.abs(x[5] - ends[1]).max() < 0.003
    assert main(["sample", "Small", "--blend", "3", "--out", str(out)]) == 2  # one text only


def test_a_lora_on_top_of_a_run_is_a_run_of_its_own_that_outlives_it(tiny, tmp_path):
    package, _, opened = tiny
    digits = datasets.load("digits")
    base = brought.keep("Base", package, {"prompt": "cat"}, digits)
    torch.manual_seed(0)
    down, up = torch.randn(2, 16), torch.randn(16, 2)
    layer = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
    file = {
        "lora_unet_attn_to_k.lora_down.weight": down,
        "lora_unet_attn_to_k.lora_up.weight": up,
        f"{layer}.lora_down.weight": down * 2,
        f"{layer}.lora_up.weight": up * 2,
    }
    alone = Package.alone(save(file), "style.safetensors")
    assert brought.origin_of(alone).name == "lora"
    kept = brought.keep("Style", alone, {"run": "Base", "strength": 0.5}, digits)
    assert jobs.get(kept.id).status == "finished", jobs.get(kept.id).message
    record = runs.record(jobs.get(kept.id))
    assert "A LoRA of rank 2 changes 2 of its layers, at strength 0.5." in record["notes"]
    assert record["brought"]["facts"]["from"]["run"] == base.id
    jobs.delete(base.id)
    model = runs.open_model(jobs.get(kept.id)).model
    before = opened.model.unet.attn["to_k"].weight
    assert torch.allclose(model.unet.attn["to_k"].weight, before + 0.5 * up @ down, atol=1e-5)
    assert model.texts(TextToImageSampling()) == ("cat",)
    for values, said in (
        ({}, r"A LoRA is nothing by itself.* Name the run"),
        ({"run": "shipped-digits-gan"}, "There is no"),
    ):
        failed = jobs.get(brought.keep("No", alone, values, digits).id)
        assert failed.status == "failed" and re.search(said, failed.message)
    # in the folder itself it is added, too
    (tmp_path / "sd" / "my-lora.safetensors").write_bytes(save(file))
    both = text_to_image.build(
        text_to_image.TextToImageConfig(strength=0.5),
        brought.read(tmp_path / "sd"),
        opened.spec,
        (),
        None,
    )
    assert torch.equal(both.model.unet.attn["to_k"].weight, model.unet.attn["to_k"].weight)


def test_parts_that_do_not_belong_together_are_refused_before_they_are_built(monkeypatch, tmp_path):
    small.stand_in(monkeypatch)
    digits = brought.spec_of(datasets.load("digits"))
    config = text_to_image.TextToImageConfig()
    for number, (changes, said) in enumerate((
        ({"text_encoder": {"hidden_size": 32}}, "listens to vectors of 16 numbers, .* ones of 32"),
        ({"unet": {"in_channels": 9}}, r"The U-Net goes from 9 to 4 channels.* \(one for inpainting has more"),
        ({"unet": {"addition_embed_type": "text_time"}}, "has addition_embed_type='text_time'. Known are: None"),
        ({"unet": {"trust_remote_code": True}}, "asks for 'trust_remote_code', which this version does not know"),
        ({"unet": {"block_out_channels": [10**9]}}, "block_out_channels=1000000000, and numbers from 1 to 4096"),
        ({"vae": {"in_channels": 3, "out_channels": 3}}, "takes pictures of 3 channels"),
        ({"vae": {"block_out_channels": [8] * 4}}, "multiple of 8 px, at least 16, got 8"),
        ({"scheduler": {"beta_end": 7}}, "has beta_end=7, and numbers from"),
        ({"text_encoder": {"vocab_size": 100}}, "up to 517, and the text encoder knows 100"),
        ({"text_encoder": {"num_hidden_layers": 3}}, "The weights do not fit CLIPTextModel: 16 of its 52"),
    )):  # fmt: skip
        small.write_folder(tmp_path / str(number), **changes)
        with pytest.raises(UserError, match=said):
            text_to_image.build(config, brought.read(tmp_path / str(number)), digits, (), None)
    (tmp_path / "0" / "vae" / "extra.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match=r"'vae/extra.bin' may be a pickle"):
        brought.read(tmp_path / "0")


def test_an_autoencoder_draws_from_the_normal_distribution_of_your_images(monkeypatch, tmp_path):
    small.stand_in(monkeypatch)
    net = small.made(autoencoder.AUTOENCODER, small.VAE, 0)
    small.write_part(tmp_path / "vae", net, small.VAE)
    digits = datasets.load("digits")
    kept = brought.keep("Coder", brought.read(tmp_path / "vae"), {}, digits)
    assert jobs.get(kept.id).status == "finished", jobs.get(kept.id).message
    run = kept.id
    opened = runs.open_model(jobs.get(run))
    model, sampling = opened.model, opened.usual
    x, _ = Split(digits, "train", torch.device("cpu")).at(torch.arange(len(digits.splits["train"])))
    mean, log_var = model.spread(x, None)
    by_hand = (net.encoder(x * 2 - 1)[:, :4] * 0.5).flatten(1)
    assert torch.allclose(mean, by_hand, atol=1e-5)
    z = model.latent(range(20_000), 0, sampling)
    true = torch.cov(mean.T) + torch.diag(log_var.exp().mean(0))
    kept = model.directions @ model.directions.T + torch.diag(model.rest**2)
    assert torch.allclose(kept, true, atol=1e-5)
    error = (torch.cov(z.T) - true).norm() / true.norm()
    assert error < 0.1 and torch.allclose(z.mean(0), mean.mean(0), atol=0.05)
    few = small.made(autoencoder.AUTOENCODER, small.VAE, 1)
    spec = brought.spec_of(digits)
    other = autoencoder.FittedAutoencoder(autoencoder.Codec(few, small.VAE, spec), spec)
    other.fit(x[:5], None)  # fewer images than numbers of a latent
    assert math.isfinite(float(other.latent(range(9), 0, sampling).sum()))
    space = latent.open_space(opened)
    assert space.encodes == "mean" and torch.allclose(space.encode(x[:2]), mean[:2], atol=1e-5)
    known = torch.ones(8, 8, dtype=torch.bool)
    known[2:6, 2:6] = False
    *_, filled = repair.fill(space, x[:1], repair.Known.mask(known), fills=2)
    assert torch.equal(filled.images[:, :, known], x[:1, :, known].expand(2, -1, -1))
    assert "not trained here" in descent.lacking(jobs.get(run))
