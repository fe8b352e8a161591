"""Which libraries use a GPU, and what makes them: a table, with where each row is said. Pure.

``notebookfacts`` reads notebooks with it; ``docs/advice.md`` shows it, and ``tests/test_libraries.py`` holds the two together.
A row says what a library does when it is installed as its own pages say for a machine with an NVIDIA GPU. What is not here is
*unknown*, but for ``TOOLS``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Use(str, enum.Enum):
    NEVER = "CPU"
    """It computes on the CPU, whatever there is."""
    ASKED = "GPU when asked"
    """On the CPU, unless the code asks for a GPU."""
    ITSELF = "GPU by itself"
    """On a GPU where there is one, unless the code says otherwise."""
    ONLY = "GPU only"
    """It does nothing without one."""


class Weight(str, enum.Enum):
    """What one thing that a notebook does says of GPUs."""

    NEEDS = "needs"
    """It fails without one."""
    GAINS = "gains"
    """It uses one where there is one."""
    COULD = "could"
    """It does not, but its library could."""
    NONE = "none"


CUDA = frozenset({"cuda", "gpu"})
"""Values of a setting that mean a GPU; what follows a colon (``cuda:0``) does not count, nor does case."""


@dataclass(frozen=True)
class Library:
    name: str
    modules: tuple[str, ...]
    """What it is imported as; dotted where only that part of it is meant. The longest that fits counts."""
    use: Use
    source: str
    """The page that says so."""
    how: str = ""
    """What makes it use a GPU, or what else does its work on one: ends "…; with X it uses a GPU"."""
    settings: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Keywords of its calls, and keys of dicts, whose value asks for a GPU."""
    calls: tuple[str, ...] = ()
    """Dotted names of its functions that ask for one."""
    prefers: tuple[str, ...] = ()
    """Those that take one where there is one."""
    methods: tuple[str, ...] = ()
    """Methods that ask for one, of whatever they are called on."""
    moves: tuple[str, ...] = ()
    """Methods, and dotted functions, that ask for one where an argument names it: ``.to("cuda")``."""
    falls_back: bool = False
    """It goes on with the CPU, with a warning at most, where the GPU that was asked for is not there."""


def _cpu(name: str, modules: str, source: str, how: str = "") -> Library:
    return Library(name, tuple(modules.split()), Use.NEVER, source, how)


def _itself(name: str, modules: str, source: str) -> Library:
    return Library(name, tuple(modules.split()), Use.ITSELF, source)


def _only(name: str, modules: str, source: str) -> Library:
    return Library(name, tuple(modules.split()), Use.ONLY, source)


_DEVICE = {"device": CUDA}
_PLACED = {"device": CUDA, "device_map": CUDA | {"auto", "balanced", "sequential"}}

LIBRARIES: tuple[Library, ...] = (
    # Numbers and tables
    _cpu("NumPy", "numpy", "https://numpy.org/doc/stable/user/basics.interoperability.html", "CuPy"),
    _cpu("SciPy", "scipy", "https://docs.scipy.org/doc/scipy/dev/api-dev/array_api.html", "CuPy or PyTorch arrays"),
    _cpu("pandas", "pandas", "https://docs.rapids.ai/api/cudf/stable/cudf_pandas/usage/", "%load_ext cudf.pandas"),
    Library(
        "scikit-learn",
        ("sklearn",),
        Use.ASKED,
        "https://scikit-learn.org/stable/modules/array_api.html",
        "%load_ext cuml.accel, or array_api_dispatch=True and arrays on the GPU,",
        settings={"array_api_dispatch": frozenset({"true"})},
        falls_back=True,
    ),
    _cpu(
        "scikit-learn-intelex",
        "sklearnex daal4py",
        "https://uxlfoundation.github.io/scikit-learn-intelex/latest/oneapi-gpu.html",
        "cuML (its own GPU support is for Intel's)",
    ),
    _cpu("statsmodels", "statsmodels", "https://www.statsmodels.org/stable/install.html"),
    _cpu("SymPy", "sympy mpmath", "https://docs.sympy.org/latest/tutorials/intro-tutorial/intro.html"),
    Library(
        "Polars",
        ("polars",),
        Use.ASKED,
        "https://docs.pola.rs/user-guide/gpu-support/",
        'collect(engine="gpu")',
        settings={"engine": CUDA},
        calls=("polars.GPUEngine",),
        falls_back=True,
    ),
    _cpu("PyArrow", "pyarrow", "https://arrow.apache.org/docs/python/integration/cuda.html", "cuDF"),
    _only("PyArrow's CUDA", "pyarrow.cuda", "https://arrow.apache.org/docs/python/integration/cuda.html"),
    _cpu("DuckDB", "duckdb", "https://duckdb.org/docs/stable/guides/performance/environment"),
    _cpu("xarray", "xarray", "https://docs.xarray.dev/en/stable/user-guide/duckarrays.html", "cupy-xarray"),
    _cpu("Dask", "dask distributed", "https://docs.dask.org/en/stable/gpu.html", "dask_cudf"),
    _cpu(
        "PySpark",
        "pyspark",
        "https://docs.nvidia.com/spark-rapids/user-guide/latest/getting-started/overview.html",
        "the RAPIDS plugin",
    ),
    Library(
        "NetworkX",
        ("networkx",),
        Use.ASKED,
        "https://docs.rapids.ai/api/cugraph/stable/nx_cugraph/",
        'backend="cugraph"',
        settings={"backend": frozenset({"cugraph"})},
    ),
    Library(
        "Numba",
        ("numba",),
        Use.ASKED,
        "https://numba.readthedocs.io/en/stable/cuda/overview.html",
        "numba.cuda",
        settings={"target": CUDA},
    ),
    _only("numba.cuda", "numba.cuda", "https://numba.readthedocs.io/en/stable/cuda/overview.html"),
    # Pictures, maps and plots
    _cpu("matplotlib", "matplotlib mpl_toolkits pylab", "https://matplotlib.org/stable/users/explain/figure/backends.html"),
    _cpu("seaborn", "seaborn", "https://seaborn.pydata.org/installing.html"),
    _cpu("Plotly", "plotly", "https://plotly.com/python/webgl-vs-svg/"),
    _cpu("Bokeh", "bokeh", "https://docs.bokeh.org/en/latest/docs/user_guide/output/webgl.html"),
    _cpu("Altair", "altair", "https://altair-viz.github.io/user_guide/large_datasets.html"),
    _cpu("scikit-image", "skimage", "https://docs.rapids.ai/api/cucim/stable/", "cuCIM"),
    Library(
        "OpenCV",
        ("cv2",),
        Use.ASKED,
        "https://docs.opencv.org/4.x/d2/dbc/cuda_intro.html",
        "cv2.cuda (in builds that have it)",
        calls=("cv2.cuda", "cv2.cuda_GpuMat"),
    ),
    _cpu("GeoPandas", "geopandas shapely", "https://docs.rapids.ai/api/cuspatial/stable/", "cuSpatial"),
    # RAPIDS and CUDA
    _only("cuDF", "cudf dask_cudf", "https://docs.rapids.ai/install/"),
    _itself("cudf.pandas", "cudf.pandas", "https://docs.rapids.ai/api/cudf/stable/cudf_pandas/usage/"),
    _only("cuML", "cuml", "https://docs.rapids.ai/install/"),
    _itself("cuml.accel", "cuml.accel", "https://docs.rapids.ai/api/cuml/stable/cuml-accel/"),
    _only("cuGraph", "cugraph nx_cugraph", "https://docs.rapids.ai/install/"),
    _only("cuSpatial, cuCIM, cuVS", "cuspatial cucim cuvs", "https://docs.rapids.ai/install/"),
    _only("RMM and Dask-CUDA", "rmm dask_cuda", "https://docs.rapids.ai/install/"),
    _only("CuPy", "cupy cupyx", "https://docs.cupy.dev/en/stable/install.html"),
    _only("PyCUDA", "pycuda", "https://documen.tician.de/pycuda/"),
    _only("CUDA Python", "cuda", "https://nvidia.github.io/cuda-python/latest/"),
    _only("Triton", "triton", "https://github.com/triton-lang/triton"),
    _only("TensorRT", "tensorrt", "https://docs.nvidia.com/deeplearning/tensorrt/latest/installing-tensorrt/prerequisites.html"),
    # Neural networks
    Library(
        "PyTorch",
        ("torch", "torchvision", "torchaudio", "torchtext", "timm", "torch_geometric"),
        Use.ASKED,
        "https://docs.pytorch.org/docs/stable/notes/cuda.html",
        '.to("cuda")',
        settings=_DEVICE,
        calls=("torch.cuda.set_device",),
        methods=("cuda",),
        moves=("to", "torch.device", "torch.set_default_device"),
    ),
    _itself("Lightning", "lightning pytorch_lightning lightning_fabric", "https://lightning.ai/docs/pytorch/stable/accelerators/gpu_basic.html"),
    _itself("fastai", "fastai", "https://docs.fast.ai/torch_core.html"),
    _itself("Accelerate", "accelerate", "https://huggingface.co/docs/accelerate/basic_tutorials/migration"),
    _itself("TensorFlow", "tensorflow tensorflow_hub tensorflow_probability tf_keras", "https://www.tensorflow.org/guide/gpu"),
    _itself("Keras", "keras keras_tuner keras_hub keras_cv keras_nlp", "https://www.tensorflow.org/guide/gpu"),
    _itself("JAX", "jax", "https://docs.jax.dev/en/latest/installation.html"),
    _itself("Flax, Optax, Haiku, Equinox", "flax optax haiku equinox", "https://docs.jax.dev/en/latest/installation.html"),
    _itself("NumPyro", "numpyro", "https://github.com/pyro-ppl/numpyro"),
    _cpu("PyMC", "pymc arviz pytensor", "https://www.pymc.io/projects/docs/en/stable/installation.html", "the NumPyro sampler"),
    Library(
        "Transformers",
        ("transformers",),
        Use.ASKED,
        "https://huggingface.co/docs/transformers/hardware",
        'device_map="auto" or .to("cuda")',
        settings=_PLACED | {"device": CUDA | {"0"}},
        prefers=("transformers.pipeline", "transformers.Trainer", "transformers.TrainingArguments", "transformers.Seq2SeqTrainer"),
        methods=("cuda",),
        moves=("to",),
    ),
    _itself("TRL", "trl", "https://huggingface.co/docs/transformers/hardware"),
    Library(
        "Diffusers",
        ("diffusers",),
        Use.ASKED,
        "https://huggingface.co/docs/diffusers/stable_diffusion",
        '.to("cuda")',
        settings=_PLACED,
        methods=("cuda", "enable_model_cpu_offload"),
        moves=("to",),
    ),
    _itself("Sentence Transformers", "sentence_transformers", "https://sbert.net/docs/package_reference/sentence_transformer/SentenceTransformer.html"),
    _itself("Ultralytics", "ultralytics", "https://docs.ultralytics.com/modes/train/"),
    _only("vLLM", "vllm", "https://docs.vllm.ai/en/latest/getting_started/installation/gpu.html"),
    _itself("bitsandbytes", "bitsandbytes", "https://huggingface.co/docs/bitsandbytes/installation"),
    _only("FlashAttention", "flash_attn", "https://github.com/Dao-AILab/flash-attention"),
    _only("Unsloth", "unsloth", "https://unsloth.ai/docs/get-started/fine-tuning-for-beginners/unsloth-requirements"),
    _itself("Whisper", "whisper", "https://github.com/openai/whisper/blob/main/whisper/__init__.py"),
    _itself("EasyOCR", "easyocr", "https://www.jaided.ai/easyocr/documentation/"),
    Library(
        "ONNX Runtime",
        ("onnxruntime",),
        Use.ASKED,
        "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html",
        'providers=["CUDAExecutionProvider"]',
        settings={"providers": frozenset({"cudaexecutionprovider", "tensorrtexecutionprovider"})},
        falls_back=True,
    ),
    # Trees
    Library(
        "XGBoost",
        ("xgboost",),
        Use.ASKED,
        "https://xgboost.readthedocs.io/en/stable/gpu/index.html",
        'device="cuda"',
        settings={"device": CUDA, "tree_method": frozenset({"gpu_hist", "gpu_exact"}), "predictor": frozenset({"gpu_predictor"})},
        falls_back=True,
    ),
    Library(
        "LightGBM",
        ("lightgbm",),
        Use.ASKED,
        "https://lightgbm.readthedocs.io/en/stable/Parameters.html#device_type",
        'device_type="cuda" (in builds that have it)',
        settings={"device": CUDA, "device_type": CUDA},
    ),
    Library(
        "CatBoost",
        ("catboost",),
        Use.ASKED,
        "https://catboost.ai/docs/en/features/training-on-gpu",
        'task_type="GPU"',
        settings={"task_type": CUDA},
    ),
    _cpu("SHAP", "shap", "https://shap.readthedocs.io/en/latest/generated/shap.GPUTreeExplainer.html", "shap.GPUTreeExplainer"),
    _only("SHAP's GPUTree", "shap.GPUTreeExplainer shap.explainers.GPUTree shap.explainers.GPUTreeExplainer", "https://shap.readthedocs.io/en/latest/generated/shap.GPUTreeExplainer.html"),
    _cpu("imbalanced-learn", "imblearn", "https://imbalanced-learn.org/stable/install.html"),
    _cpu("UMAP and HDBSCAN", "umap hdbscan", "https://docs.rapids.ai/api/cuml/stable/cuml-accel/", "%load_ext cuml.accel"),
    _cpu("Optuna", "optuna", "https://optuna.readthedocs.io/en/stable/faq.html"),
    _cpu("Prophet", "prophet", "https://facebook.github.io/prophet/docs/installation.html"),
    # Text and search
    Library(
        "spaCy",
        ("spacy",),
        Use.ASKED,
        "https://spacy.io/usage#gpu",
        "spacy.prefer_gpu()",
        calls=("spacy.require_gpu",),
        prefers=("spacy.prefer_gpu",),
    ),
    _itself("Stanza", "stanza", "https://stanfordnlp.github.io/stanza/pipeline.html"),
    _cpu("NLTK", "nltk", "https://www.nltk.org/install.html"),
    _cpu("Gensim", "gensim", "https://radimrehurek.com/gensim/models/word2vec.html"),
    Library(
        "Faiss",
        ("faiss",),
        Use.ASKED,
        "https://github.com/facebookresearch/faiss/wiki/Faiss-on-the-GPU",
        "faiss.index_cpu_to_gpu",
        calls=("faiss.StandardGpuResources", "faiss.index_cpu_to_gpu", "faiss.index_cpu_to_all_gpus"),
    ),
)  # fmt: skip

TOOLS = frozenset(
    {
        "IPython", "ipywidgets", "ipykernel", "jupyter_core", "jupyter_client", "nbformat", "notebook", "traitlets", "tqdm",
        "rich", "requests", "httpx", "aiohttp", "urllib3", "bs4", "lxml", "PIL", "imageio", "openpyxl", "xlrd",
        "xlsxwriter", "h5py", "tables", "netCDF4", "yaml", "dotenv", "click", "pydantic", "attr", "attrs", "joblib",
        "cloudpickle", "dill", "fsspec", "s3fs", "gcsfs", "adlfs", "azure", "boto3", "botocore", "sqlalchemy", "psycopg2",
        "pymysql", "pyodbc", "pymongo", "redis", "tabulate", "dateutil", "pytz", "six", "psutil", "packaging", "setuptools",
        "pkg_resources", "pytest", "hypothesis", "pooch", "folium", "pydot", "graphviz", "wordcloud", "mlflow", "wandb",
        "tensorboard", "datasets", "tokenizers", "huggingface_hub", "safetensors", "openai", "anthropic",
        "typing_extensions", "cycler", "jinja2", "markdown", "simplejson", "orjson", "zarr",
    }
)  # fmt: skip
"""What reads, writes, shows and talks: nothing of it is worth a GPU, and it does not count for either answer."""


def library_of(dotted: str) -> Library | None:
    """The row for a dotted name, the most particular one. None where the table has none."""
    while dotted:
        row = _BY_MODULE.get(dotted)
        if row is not None:
            return row
        dotted = dotted.rpartition(".")[0]
    return None


def means_gpu(values: frozenset[str], value: str) -> bool:
    """Whether the text of a setting's value is one of ``values``."""
    return value.strip().lower().partition(":")[0] in values


_BY_MODULE: Mapping[str, Library] = {module: row for row in LIBRARIES for module in row.modules}
