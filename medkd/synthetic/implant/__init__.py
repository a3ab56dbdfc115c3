"""Synthetic nodules of known size, kind and place in a site's own real scans.

What is known of how real inserted nodules look:

- 40 computed nodules in 20 chest CTs, density and margin adjusted to each patient's real ones:
  three blinded readers could not tell them from 40 real ones, larger ones more easily than small
  ones ("Insertion of virtual pulmonary nodules in CT data of the chest: development of a software
  tool", Eur Radiol 2006, doi:10.1007/s00330-006-0254-x).
- Segmented real nodules, forward projected and reconstructed with the scan: two residents reached
  an AUC of .57, two radiologists .69 in telling 32 of them from the 32 real ones (Ma et al., J Med
  Imaging 4(1):013510, 2017). The same with liver lesions: .58 (Chen et al., Acad Radiol
  23:1221, 2016).
- Real nodules blended in by Poisson editing improve a detector that has few real ones to learn
  from (Pezeshk et al., IEEE TMI 36:1005, 2017).
- Three ways were compared by volume and shape with physical nodules in a chest phantom: models put
  into the projections, models put into the image with the system's physics, crops of real nodules
  blended in ("Techniques for virtual lung nodule insertion", Robins et al., Phys Med Biol 2017).
  What is done here is the second.

Here raw projections are not to be had, and a site without a reference standard has no segmented
nodule of its own, so models are blurred by the resolution that is measured in each scan and added
to its voxels. Nodules are rehearsed first: what tells their borders from those of the scan's own
structure is learned, and of many that are drawn one is taken by its odds of being real. What
readers cannot tell, boosted trees may: `tests/bench/implant_realism.py` measures that, bars missed
included.
"""
