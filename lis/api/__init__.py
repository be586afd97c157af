"""The Python API, which `import lis` offers: a study of a classifier through a generator, and what it gives.

Results are frozen, on the CPU, and show themselves in a notebook. What is computed lies in the store, where the command
line finds it too.

Example:
    >>> import lis
    >>> s = lis.study(classes="dogs", link="lr", size="smoke")
    >>> s
    Study of PartNet (256 units) through PartWorld (64 pixels): border_collie, pug, chihuahua, schnauzer, weimaraner

    Pairs of activations and style codes, the fitted link, and the models:

    >>> r, w = s.pairs("test")["r"], s.pairs("test")["w"]
    >>> r.shape, w.shape, s.link(r).shape
    (torch.Size([150, 256]), torch.Size([150, 64]), torch.Size([150, 64]))
    >>> s.generator.resolution, s.classifier.units
    (64, 256)

    What is read off images: parts, their measures, activations and answers.

    >>> look = s.look(w[:2])
    >>> look.image.shape, look.mask.shape, look.measures.shape
    (torch.Size([2, 3, 64, 64]), torch.Size([2, 64, 64]), torch.Size([2, 9, 5]))
    >>> look.r.shape, look.logits.shape, look.probability.shape
    (torch.Size([2, 256]), torch.Size([2, 15]), torch.Size([2, 5]))
    >>> look.predicted.tolist(), look.table.columns.tolist()
    (['border_collie', 'border_collie'], ['sample', 'label', 'measure', 'measured'])

    One unit through its range, and what the classifier says to it:

    >>> t = s.tune(r[0], unit=12, steps=7)
    >>> t  # doctest: +ELLIPSIS
    TuneResult of unit 12 from 0 to 2.25: 1 sample, 7 steps; ... % arrives: own ... std, others ... std, ...
    >>> t.image.shape, t.mask.shape, t.measures.shape
    (torch.Size([7, 3, 64, 64]), torch.Size([7, 64, 64]), torch.Size([7, 9, 5]))
    >>> t.table.columns.tolist()
    ['sample', 'class', 'step', 'value', 'label', 'measure', 'measured', 'change']

    What takes a sample to be of another class, and what the command line computes and keeps:

    >>> c = s.counterfactual(r[0], target="chihuahua")
    >>> c
    CounterfactualResult of 1 sample, 1 reached: border collie → chihuahua
    >>> c.units.columns.tolist()
    ['sample', 'unit', 'shift', 'change', 'reencoded_change']
    >>> s.stage("unit_statistics").table("ranking")["measure"].unique().tolist()
    ['area', 'luminance', 'entropy', 'eccentricity', 'angle']

    Which concept each unit of a layer agrees with, beside permuted images of the same class:

    >>> s.dissect(layer="body.2")  # doctest: +ELLIPSIS
    DissectionResult of body.2, 16 units: ... agree with a concept above chance, ... have IoU > 0.04 (... at chance)

    What the classes lose without two units, beside two random ones:

    >>> s.ablate(units=[3, 7])  # doctest: +ELLIPSIS
    AblationResult of 2 units (3, 7) of body: balanced accuracy ... (mean over classes), beside ...

    What a run of the command line has left in its folder:

    >>> run = lis.load("outputs/2026-11-27/23-38-08")
    >>> run["unit_statistics"].table("ranking").equals(s.stage("unit_statistics").table("ranking"))
    True
    >>> run.report.path.name, run.metrics["link/samples"]
    ('report.html', 300.0)
"""

from lis.api.ablation import AblationResult
from lis.api.counterfactual import CounterfactualResult
from lis.api.dissection import DissectionResult
from lis.api.painted import PaintResult
from lis.api.results import FittedLink, LookResult, Pairs, StageResult
from lis.api.run_pages import Report
from lis.api.runs import Run, StageFiles, Sweep, load, load_sweep
from lis.api.study import Study, study
from lis.api.tuned import TuneResult
from lis.dissection.painting import PixelSegmenter
from lis.testing import ContractError, check_classifier, check_generator
from lis.units.perturbation import Perturbation
from lis.units.unit import Traversal
