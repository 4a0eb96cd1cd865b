# Makes the stored PyTorch files of the tests: python test/weights/make-torch-files.py (needs torch; its version does not matter).
# One dictionary with every kind of tensor the reader knows, as PyTorch writes it today and as it wrote it before 1.6.
import argparse
import collections
import os

import torch

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'files')
base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8
state = collections.OrderedDict()
state['whole'] = base
state['part'] = base[1]  # same storage, from its middle on
state['turned'] = base.permute(2, 0, 1)  # same storage, other strides
state['column'] = base[:, 1, 2]
state['trained'] = torch.nn.Parameter(torch.tensor([1.5, -2.5, 3e-8]))
state['double'] = torch.tensor([[1 / 3, -1e-300]], dtype=torch.float64)
state['half'] = torch.tensor([0.1, -65504.0, 6e-8, float('inf')], dtype=torch.float16)
state['brain'] = torch.tensor([0.1, -3e38, 1e-40], dtype=torch.bfloat16)
state['counter'] = torch.tensor(7)
state['scalar'] = torch.tensor(0.25)
state['empty'] = torch.zeros(0, 4)
wrapped = collections.OrderedDict(('module.' + name, tensor) for name, tensor in state.items())
wrapped._metadata = {'': {'version': 1}}
checkpoint = {
    'model': wrapped,
    'epoch': 3,
    'args': argparse.Namespace(lr=0.1, name='x'),
    'optimizer': {'state': {0: {'momentum_buffer': torch.ones(2)}}, 'param_groups': [{'lr': 0.1, 'params': [0]}]},
}
torch.save(state, os.path.join(here, 'plain.pth'))
torch.save(checkpoint, os.path.join(here, 'checkpoint.pth'))
torch.save(checkpoint, os.path.join(here, 'checkpoint-legacy.pth'), _use_new_zipfile_serialization=False)
