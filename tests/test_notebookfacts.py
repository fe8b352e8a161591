"""What is read of a notebook's code: libraries, what asks for a GPU, and data files."""

from __future__ import annotations

import pytest

from jupyter_dsvm.libraries import Weight
from jupyter_dsvm.notebookfacts import facts_of

N, G, C, O = Weight.NEEDS, Weight.GAINS, Weight.COULD, Weight.NONE  # noqa: E741


def found(*cells: str) -> dict[str, set[Weight]]:
    weights: dict[str, set[Weight]] = {}
    for f in facts_of(cells).found:
        weights.setdefault(f.library.name, set()).add(f.weight)
    return weights


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["import pandas as pd\nimport numpy"], {"pandas": {O}, "NumPy": {O}}),
        (["from sklearn.svm import SVC"], {"scikit-learn": {C}}),
        (["import sklearn\nsklearn.set_config(array_api_dispatch=True)"], {"scikit-learn": {C, G}}),
        (["from sklearnex import patch_sklearn\npatch_sklearn()"], {"scikit-learn-intelex": {O}}),
        # PyTorch
        (["import torch"], {"PyTorch": {C}}),
        (["import torch", "x = torch.zeros(3).cuda()"], {"PyTorch": {C, N}}),
        (["import torch.nn as nn", "m = nn.Linear(1, 1).to('cuda:0')"], {"PyTorch": {C, N}}),
        (["import torch", "m.to(device='cuda')"], {"PyTorch": {C, N}}),
        (["import torch", "m.to('cpu')", "x.to(torch.float16)"], {"PyTorch": {C}}),
        (["import torch\nx = torch.ones(2, device='cuda')"], {"PyTorch": {C, N}}),
        (["import torch\nx = torch.ones(2, device=f'cuda:{rank}')"], {"PyTorch": {C, N}}),
        (["import torch", "device = torch.device('cuda')", "m.to(device)"], {"PyTorch": {C, N}}),
        (["import torch\nd = 'cuda' if torch.cuda.is_available() else 'cpu'", "m.to(d)"], {"PyTorch": {C, G}}),
        (["import torch\nd = torch.device('cuda' if ok() else 'cpu')", "m.to(d)"], {"PyTorch": {C, G}}),
        (["import torch\nif torch.cuda.is_available():\n    m.cuda()"], {"PyTorch": {C, G}}),
        (["import torch\nuse_cuda = True", "if use_cuda:\n    m = m.cuda()"], {"PyTorch": {C, G}}),
        (["import torch\ndevice = 'cpu'\nif torch.cuda.is_available():\n    device = 'cuda'", "m.to(device)"], {"PyTorch": {C, G}}),
        (["import torch\nassert torch.cuda.is_available()"], {"PyTorch": {C, N}}),
        (["import torch\nprint(torch.cuda.is_available())"], {"PyTorch": {C}}),
        (["import torch\ntorch.set_default_device('cuda')"], {"PyTorch": {C, N}}),
        (["import torch\ndef train(device):\n    m.to(device)"], {"PyTorch": {C}}),
        (["import torch as t\nclass A:\n    def f(self):\n        return self.x.cuda()"], {"PyTorch": {C, N}}),
        # By themselves
        (["import tensorflow as tf"], {"TensorFlow": {G}}),
        (["from tensorflow import keras"], {"TensorFlow": {G}}),
        (["import keras"], {"Keras": {G}}),
        (["import jax.numpy as jnp"], {"JAX": {G}}),
        (["from fastai.vision.all import *"], {"fastai": {G}}),
        (["from ultralytics import YOLO"], {"Ultralytics": {G}}),
        (["from sentence_transformers import SentenceTransformer"], {"Sentence Transformers": {G}}),
        # RAPIDS
        (["import cudf"], {"cuDF": {N}}),
        (["import cuml\nfrom cuml.cluster import KMeans"], {"cuML": {N}}),
        (["import cupy as cp"], {"CuPy": {N}}),
        (["try:\n    import cupy as xp\nexcept ImportError:\n    import numpy as xp"], {"CuPy": {G}, "NumPy": {O}}),
        (["%load_ext cudf.pandas\nimport pandas as pd"], {"cudf.pandas": {G}, "pandas": {O}}),
        (["%load_ext cuml.accel", "import sklearn"], {"cuml.accel": {G}, "scikit-learn": {C}}),
        (["import cudf.pandas\ncudf.pandas.install()\nimport pandas"], {"cudf.pandas": {G}, "pandas": {O}}),
        (["get_ipython().run_line_magic('load_ext', 'cudf.pandas')"], {"cudf.pandas": {G}}),
        (["from numba import cuda\n@cuda.jit\ndef f(): pass"], {"numba.cuda": {N}}),
        (["import numba\n@numba.cuda.jit\ndef f(): pass"], {"Numba": {C}, "numba.cuda": {N}}),
        (["from numba import njit\n@njit\ndef f(): pass"], {"Numba": {C}}),
        # Hugging Face
        (["from transformers import AutoModel\nm = AutoModel.from_pretrained('x')"], {"Transformers": {C}}),
        (["from transformers import AutoModel\nm = AutoModel.from_pretrained('x', device_map='auto')"], {"Transformers": {C, G}}),
        (["from transformers import pipeline\np = pipeline('sentiment-analysis')"], {"Transformers": {C, G}}),
        (["from diffusers import DiffusionPipeline as D\np = D.from_pretrained('x').to('cuda')"], {"Diffusers": {C, N}}),
        (["from vllm import LLM"], {"vLLM": {N}}),
        # Trees
        (["import xgboost as xgb\nxgb.XGBClassifier()"], {"XGBoost": {C}}),
        (["import xgboost as xgb\nxgb.XGBClassifier(device='cuda')"], {"XGBoost": {C, G}}),
        (["from xgboost import XGBClassifier\nXGBClassifier(tree_method='gpu_hist')"], {"XGBoost": {C, G}}),
        (["import xgboost", "p = {'tree_method': 'hist', 'device': 'cuda'}"], {"XGBoost": {C, G}}),
        (["import xgboost", "p = dict()\np['device'] = 'cuda'"], {"XGBoost": {C, G}}),
        (["import xgboost", "p = {'tree_method': 'hist', 'device': 'cpu'}"], {"XGBoost": {C}}),
        (["import lightgbm as lgb\nlgb.LGBMClassifier(device='gpu')"], {"LightGBM": {C, N}}),
        (["import lightgbm", "p = {'device_type': 'cuda'}"], {"LightGBM": {C, N}}),
        (["from catboost import CatBoostClassifier as C\nC(task_type='GPU')"], {"CatBoost": {C, N}}),
        (["import catboost\nkind = 'GPU'", "catboost.CatBoost({'task_type': kind})"], {"CatBoost": {C, N}}),
        # Others
        (["import spacy\nspacy.load('en')"], {"spaCy": {C}}),
        (["import spacy\nspacy.prefer_gpu()"], {"spaCy": {C, G}}),
        (["import spacy\nspacy.require_gpu()"], {"spaCy": {C, N}}),
        (["import polars as pl", "q.collect(engine='gpu')"], {"Polars": {C, G}}),
        (["import onnxruntime as o\no.InferenceSession('m', providers=['CUDAExecutionProvider'])"], {"ONNX Runtime": {C, G}}),
        (["import faiss\nr = faiss.StandardGpuResources()"], {"Faiss": {C, N}}),
        (["import cv2\nm = cv2.cuda_GpuMat()"], {"OpenCV": {C, N}}),
        # A keyword of that name elsewhere
        (["import pandas\nplot(device='cuda')"], {"pandas": {O}}),
        (["%%bash\nimport torch"], {}),
        (["x = 1"], {}),
    ],
)  # fmt: skip
def test_code(cells: list[str], expected: dict[str, set[Weight]]):
    assert found(*cells) == expected


def test_what_asks_is_quoted_with_its_cell():
    facts = facts_of(["import torch", "", "model = Net()\nmodel.to(  device='cuda' )"])
    (asked,) = [f for f in facts.found if f.weight is N]
    assert (asked.cell, asked.call) == (3, '.to(device="cuda")')
    (long,) = [f for f in facts_of(["import torch", f"x.to('cuda', {'a' * 500})"]).found if f.weight is N]
    assert len(long.call) == 80


def test_hidden_gpus():
    assert facts_of(["import os, torch\nos.environ['CUDA_VISIBLE_DEVICES'] = ''"]).hidden
    assert not facts_of(["import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'"]).hidden
    assert not facts_of(["import os\nif gpu_is_small:\n    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'"]).hidden


def test_modules_that_the_table_does_not_have():
    facts = facts_of(["import strange.part, tqdm, json\nfrom own import x\nimport pandas", "from . import y"], {"own"})
    assert facts.unlisted == ("strange",)
    assert facts.local == ("own",)


def test_a_cell_that_is_no_python_is_named_and_leaves_the_others():
    facts = facts_of(["def (", "import torch", "%%html\n<b>", "   ", "%%time\nx.cuda()"])
    assert facts.unread == (1,)
    assert facts.cells == 2 + 1  # an empty cell is Python
    assert found("def (", "import torch") == {"PyTorch": {C}}


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["import pandas as pd\npd.read_csv('a.csv')\npd.read_parquet('b.parquet')"], {"a.csv": 5, "b.parquet": 10}),
        (["from pandas import read_csv\nread_csv('a.csv.gz')"], {"a.csv.gz": 20}),
        (
            ["import pandas as pd\nfrom pathlib import Path\nroot = Path('data')", "pd.read_csv(root / 'a.csv')"],
            {"data/a.csv": 5},
        ),
        (["import os, pandas as pd\npd.read_json(os.path.join('d', 'a.json'))"], {"d/a.json": 5}),
        (
            ["import pandas as pd\nname = 'x'\npd.read_csv(f'{name}.csv')\npd.read_csv('d/' + name)"],
            {"x.csv": 5, "d/x": 5},
        ),
        (
            ["import numpy as np\nnp.load('a.npy')\nnp.load('b.npz')\nnp.load('c.npy', mmap_mode='r')"],
            {"a.npy": 2, "b.npz": 3},
        ),
        (
            ["with open('a.txt') as f:\n    f.read()\nopen('b', 'w')\nopen('c', mode='rb')\nopen('d', m)"],
            {"a.txt": 2, "c": 2},
        ),
        (["import torch\ntorch.load('m.pt')"], {"m.pt": 2}),
        (["import pandas as pd\npd.read_csv('https://example.com/a.csv')\npd.read_csv(name)\npd.read_csv()"], {}),
        (["import pandas as pd\npd.read_csv('a.csv', chunksize=5)\npd.read_csv('b.csv', nrows=5)"], {}),
        (["import polars as pl\npl.scan_csv('a.csv')\npl.read_csv('b.csv')"], {"b.csv": 5}),
        (["df.read_csv('a.csv')"], {}),
    ],
)
def test_data_files(cells: list[str], names: dict[str, float]):
    assert {f.name: f.kind.factor for f in facts_of(cells).data} == names
