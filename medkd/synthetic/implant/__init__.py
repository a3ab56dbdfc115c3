"""Synthetic nodules of known size, kind and place in real scans of a hospital.

Nodules are analytic or segmented outlines. Each is blurred by the response that is measured in the
scan and added to its voxels: raw projections are not available, and a hospital without a reference
standard has no segmented nodules of its own. Of the three ways that were compared with physical
nodules in a chest phantom (insertion into projections; insertion into the image with the system's
physics; blending of real nodules), this is the second ("Techniques for virtual lung nodule
insertion", Robins et al., Phys Med Biol 2017).

What is known of how real inserted nodules look:

- 40 computed nodules in 20 chest CTs: three blinded readers could not distinguish them from 40
  real ones ("Insertion of virtual pulmonary nodules in CT data of the chest: development of a
  software tool", Eur Radiol 2006, doi:10.1007/s00330-006-0254-x).
- Segmented real nodules, forward projected and reconstructed with the scan: two residents
  distinguished 32 of them from 32 real ones with an AUC of .57, two radiologists with .69 (Ma et
  al., J Med Imaging 4(1):013510, 2017). The same with liver lesions: .58 (Chen et al., Acad Radiol
  23:1221, 2016).
- Real nodules blended in by Poisson editing improve a detector that has few real ones to learn
  from (Pezeshk et al., IEEE TMI 36:1005, 2017).

Boosted trees distinguish more than readers do: `tests/bench/implant_realism.py` measures how much.
"""
