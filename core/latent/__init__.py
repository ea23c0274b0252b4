"""Exploring what a model learned: paths, planes and directions in its latent space, and your own image in it.

Everything works on points of a :class:`Space`, which hides how families differ.
"""

from core.latent.directions import (
    AMOUNTS,
    MOST,
    Direction,
    costly,
    factors,
    filmstrip,
    foretold,
    local,
    move,
    principal,
)
from core.latent.encoding import bank, difference, encode, find, invert
from core.latent.films import encoder, gif, mp4, mp4_ready, webp
from core.latent.mixing import NO_LAYERS, mixable, mixed
from core.latent.naming import call, id_of, named
from core.latent.pad_cover import shelve
from core.latent.paths import WAYS, lerp, path, slerp, spline, walk
from core.latent.planes import (
    PLANES,
    anchors_plane,
    blended,
    contrast,
    coordinates_plane,
    directions_plane,
    first_plane,
    labels_plane,
    neighbourhood,
    principal_plane,
    prompts_plane,
)
from core.latent.projection import METHODS, chart, guess, methods, neighbours
from core.latent.regression import arithmetic, condition, explained, regressed
from core.latent.rendering import (
    Rendered,
    condition_of,
    drawn,
    ground,
    held_out,
    inks,
    means,
    render,
    renders,
    sketches,
    varies,
)
from core.latent.saved_view import SavedView, read_view, write_view
from core.latent.space import Space, open_space, supports, trained_on
from core.latent.standings import METHODS as TRANSLATIONS
from core.latent.standings import (
    MeasuredWay,
    Standings,
    colours,
    examples,
    measured,
    standings,
)
from core.latent.together import JOINED, beside, carry, joints
from core.latent.translation import (
    Aspect,
    Judged,
    Translated,
    aspect_of,
    aspects,
    changeable,
    judged,
    translate,
    truth,
    why_not,
)
from core.latent.transport import Transport
from core.latent.views import (
    activations,
    code_map,
    denoising,
    effects,
    posterior,
    repaint,
    token,
    unrolled,
    views,
    vocabulary,
    without,
)
