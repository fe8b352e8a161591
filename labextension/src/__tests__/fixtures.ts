import {
  IAdvice,
  IAdviceRequest,
  ICellRunList,
  ICompute,
  IComputeList,
  IConflictRequest,
  ICreation,
  IFetchRequest,
  IIdleRequest,
  IIdleStop,
  IInstallRequest,
  IKernel,
  IKernelList,
  IKernelspecList,
  ILinkState,
  IMetrics,
  IModuleList,
  IModulesRequest,
  IMoveRequest,
  INewCompute,
  IOperation,
  IOperationList,
  IProblem,
  IQuestionList,
  ISavedOutputs,
  ISavedVariables,
  ISignIn,
  ISizeOffer,
  ISizeOfferList,
  ISpend,
  ISSHCommand,
  IStopLoss,
  ISyncRequest,
  ITerminal,
  IVariables,
  IWorkspaceEstimate,
  IWorkspaceList
} from '../api';

export const problem: IProblem = {
  code: 'AllocationFailed',
  message:
    'Starting gpu-vm was refused by Azure: there is no capacity for NC4as_T4_v3 in West Europe.',
  advice: 'Try again later, or attach to a machine of another size.',
  retry_after: null
};

export const free: ICompute = {
  id: 'free',
  name: 'Free tier',
  kind: 'free',
  power_state: 'running',
  os: 'linux',
  location: null,
  subscription: null,
  resource_group: null,
  image: null,
  size: { name: 'free', vcpus: 2, memory_gib: 4, gpus: null, gpu_model: null },
  price: null,
  attached: ['work/analysis.ipynb'],
  hibernated: false,
  problem: null,
  not_allowed: [],
  idle: null
};

export const idleStop: IIdleStop = {
  state: 'idle',
  text: 'Nothing runs there.',
  stops_at: '2026-11-28T12:25:00.000Z',
  kept_until: null,
  idle_minutes: 30,
  hard_limit_hours: null,
  hard: false,
  lost: ['/mnt/scratch/model.bin'],
  safety: {
    kind: 'ours',
    text: 'Azure stops it at 15:00 UTC unless it is used then.',
    at: '2026-11-28T15:00:00.000Z',
    averted: true
  }
};

export const stopLoss: IStopLoss = {
  known: true,
  text: '1 file on the temporary disk is lost: /mnt/scratch/model.bin (1.2 GB).',
  files: ['/mnt/scratch/model.bin'],
  more: 0,
  bytes: 1_200_000_000
};

export const nobodyKnows: IStopLoss = { known: false, text: '', files: [], more: 0, bytes: 0 };

export const idleRequest: IIdleRequest = {
  keep_seconds: 3600,
  idle_minutes: null,
  hard_limit_hours: 8
};

export const spend: ISpend = {
  revision: 3,
  as_of: '2026-11-28T12:00:00.000Z',
  currency: 'USD',
  today: 1.12,
  month: 17.4,
  per_hour: 0.526,
  computes: [{ compute: 'azure:6b1a', name: 'gpu-vm', today: 1.12, month: 17.4, per_hour: 0.526 }],
  budgets: [
    {
      compute: null,
      name: '',
      period: 'month',
      limit: 20,
      spent: 17.4,
      state: 'warning',
      refuses: true
    }
  ],
  unpriced: [],
  unseen: []
};

export const gpu: ICompute = {
  id: 'azure:6b1a',
  name: 'gpu-vm',
  kind: 'dsvm',
  power_state: 'deallocated',
  os: 'linux',
  location: 'westeurope',
  subscription: '11111111-0000-0000-0000-000000000001',
  resource_group: 'research',
  image: 'microsoft-dsvm:ubuntu-2204:2204-gen2',
  size: { name: 'Standard_NC4as_T4_v3', vcpus: 4, memory_gib: 28, gpus: 1, gpu_model: 'T4' },
  price: { amount: 0.526, currency: 'USD', as_of: '2026-11-01' },
  attached: [],
  hibernated: false,
  problem: null,
  not_allowed: [],
  idle: null
};

export const cpu: ICompute = {
  ...gpu,
  id: 'azure:7c2b',
  name: 'cpu-vm',
  power_state: 'running',
  size: { name: 'Standard_D4s_v5', vcpus: 4, memory_gib: 16, gpus: 0, gpu_model: null },
  price: null
};

export const old: ICompute = { ...cpu, id: 'azure:8d3c', name: 'old-vm', power_state: 'stopped' };

export const win: ICompute = {
  ...cpu,
  id: 'azure:9e4d',
  name: 'win-vm',
  os: 'windows',
  power_state: 'deallocated'
};

export const host: ICompute = {
  ...cpu,
  id: 'host:lab',
  name: 'lab',
  kind: 'host',
  power_state: 'unknown',
  location: null,
  subscription: null,
  resource_group: null,
  image: null,
  size: null
};

export const local: ILinkState = {
  state: 'local',
  since: '2026-11-21T10:00:00.000Z',
  attempt: 0,
  reason: ''
};

export const kernel: IKernel = {
  id: 'k-1',
  path: 'work/analysis.ipynb',
  compute: 'free',
  kernelspec: 'python3',
  link: local,
  execution_state: 'idle',
  last_activity: '2026-11-21T10:00:00.000Z',
  moving_to: null,
  last_compute: null,
  problem: null,
  saved: null
};

export const savedVariables: ISavedVariables = {
  compute: gpu.id,
  saved: '2026-11-27T18:30:00.000Z',
  names: ['df', 'model'],
  count: 12,
  bytes: 1_200_000_000,
  left: ['conn']
};

export const variables: IVariables = {
  kernel: kernel.id,
  compute: gpu.id,
  state: 'ready',
  reason: '',
  variables: [
    {
      name: 'conn',
      type: 'sqlite3.Connection',
      bytes: null,
      moves: false,
      reason: 'An open connection cannot move.'
    },
    { name: 'df', type: 'pandas.DataFrame', bytes: 1_100_000_000, moves: true, reason: '' },
    { name: 'model', type: 'torch.nn.Linear', bytes: 100_000_000, moves: true, reason: '' }
  ],
  more: 0,
  bytes: 1_200_000_000,
  seconds: 14,
  needs_yes: false
};

export const noVariables: IVariables = {
  kernel: kernel.id,
  compute: gpu.id,
  state: 'unsupported',
  reason: 'Variables of an R kernel cannot be carried yet.',
  variables: [],
  more: 0,
  bytes: 0,
  seconds: null,
  needs_yes: false
};

export const attach: IOperation = {
  id: 'op-1',
  kind: 'attach',
  compute: gpu.id,
  kernel: kernel.id,
  state: 'running',
  steps: [
    { name: 'start', text: 'Starting gpu-vm', state: 'done' },
    { name: 'connect', text: 'Connecting to gpu-vm', state: 'running' },
    { name: 'kernel', text: 'Starting a kernel there', state: 'pending' },
    { name: 'swap', text: 'Moving the notebook', state: 'pending' }
  ],
  progress: 0.25,
  error: null,
  started: '2026-11-21T10:00:00.000Z',
  ended: null,
  notice: '',
  elsewhere: false
};

export const computeList: IComputeList = {
  revision: 1,
  computes: [free, cpu, gpu, old, win, host],
  problems: [],
  as_of: '2026-11-21T10:00:00.000Z'
};

export const kernelList: IKernelList = { revision: 1, kernels: [kernel] };

export const operationList: IOperationList = { revision: 1, operations: [] };

export const kernelspecList: IKernelspecList = {
  kernelspecs: [
    { name: 'python3', display_name: 'Python 3', language: 'python' },
    { name: 'pytorch', display_name: 'PyTorch', language: 'python' }
  ]
};

export const moveRequest: IMoveRequest = {
  compute: gpu.id,
  kernelspec: 'pytorch',
  interrupt: true,
  sync: false,
  carry: ['df', 'model'],
  allow_carry: true
};

export const syncRequest: ISyncRequest = { direction: 'both', force: true, yes: true };

export const conflictRequest: IConflictRequest = { path: 'data.csv', keep: 'theirs' };

export const fetchRequest: IFetchRequest = { paths: ['model.bin'] };

export const modulesRequest: IModulesRequest = {
  sources: ['import numpy'],
  kernelspec: null,
  path: 'work/analysis.ipynb'
};

export const installRequest: IInstallRequest = { packages: ['plotly'], kernelspec: 'pytorch' };

export const install: IOperation = {
  ...attach,
  id: 'op-install',
  kind: 'install',
  compute: cpu.id,
  kernel: null,
  steps: [{ name: 'install', text: 'Collecting plotly', state: 'running' }]
};

export const sync: IOperation = {
  ...attach,
  id: 'op-sync',
  kind: 'sync',
  compute: gpu.id,
  steps: [{ name: 'files', text: 'Copying 12 of 340 files', state: 'running' }],
  progress: 0.04
};

export const load: IOperation = {
  ...attach,
  id: 'op-load',
  kind: 'load',
  steps: [{ name: 'variables', text: 'Loading variables (340 MB of 1.2 GB)', state: 'running' }]
};

export const sizeOffer: ISizeOffer = {
  size: { name: 'Standard_NC8as_T4_v3', vcpus: 8, memory_gib: 56, gpus: 1, gpu_model: 'T4' },
  price: { amount: 0.94, currency: 'USD', as_of: '2026-11-01' },
  current: false,
  available: true,
  reason: '',
  warnings: []
};

export const sizeOffers: ISizeOfferList = {
  sizes: [
    sizeOffer,
    {
      ...sizeOffer,
      size: { ...sizeOffer.size, name: 'Standard_NC24ads_A100_v4' },
      available: false,
      reason: 'The quota of its family is used up.'
    }
  ],
  notice: 'gpu-vm is stopped for it, and started again.'
};

export const newCompute: INewCompute = {
  name: 'new-vm',
  location: 'westeurope',
  size: 'Standard_NC8as_T4_v3',
  subscription: 'Research',
  resource_group: null,
  private: null,
  source_address: '203.0.113.7',
  disk_gib: 200
};

export const creation: ICreation = {
  allowed: true,
  reason: '',
  subscriptions: [{ id: 'sub1', name: 'Research', available: true, reason: '' }],
  subscription: 'sub1',
  locations: [{ name: 'westeurope', text: 'West Europe' }],
  location: 'westeurope',
  sizes: [sizeOffer],
  image: 'microsoft-dsvm:ubuntu-2204:2204-gen2',
  resource_group: 'jupyter-dsvm',
  source_address: '',
  private_only: false,
  notice: 'The disk and a public address are billed beside that.'
};

export const signIn: ISignIn = {
  revision: 1,
  state: 'prompting',
  cloud: 'public',
  method: null,
  account: null,
  tenant: null,
  tenants: [],
  kept: false,
  id: 'attempt-1',
  url: 'https://microsoft.com/devicelogin',
  code: 'ABCD1234',
  expires: '2026-11-21T10:15:00.000Z',
  error: null
};

/** As the server says it to everybody. */
export const signedIn: ISignIn = {
  ...signIn,
  state: 'signed_in',
  method: 'device_code',
  account: 'ada@example.com',
  tenant: '7d0a7f3c-0000-0000-0000-000000000001',
  id: null,
  url: null,
  code: null,
  expires: null
};

export const signedOut: ISignIn = {
  ...signedIn,
  state: 'signed_out',
  method: null,
  account: null,
  tenant: null
};

export const signInRequired: IProblem = {
  code: 'SignInRequired',
  message: 'Could not sign in to Azure: nobody is signed in.',
  advice: 'Sign in in the Compute panel, with %dsvm signin, or with `jupyter dsvm signin`.',
  retry_after: null
};

export const metrics: IMetrics = {
  compute: gpu.id,
  as_of: '2026-11-21T10:00:00.000Z',
  cpu: 0.25,
  memory: { used_gib: 6.5, total_gib: 28 },
  disk: { used_gib: 40, total_gib: 150 },
  gpus: [{ name: 'Tesla T4', utilization: 0.61, memory: { used_gib: 3.5, total_gib: 16 } }]
};

export const freeMetrics: IMetrics = {
  compute: free.id,
  as_of: '2026-11-21T10:00:00.000Z',
  cpu: null,
  memory: { used_gib: 2.9, total_gib: 4 },
  disk: { used_gib: 0.6, total_gib: 1 },
  gpus: []
};

export const workspaceList: IWorkspaceList = {
  revision: 1,
  workspaces: [
    {
      id: 'w-1',
      compute: gpu.id,
      folder: 'work',
      kernels: [kernel.id],
      state: 'in_step',
      text: '84 MB, in step',
      files: 340,
      bytes: 84_000_000,
      progress: null,
      conflicts: [{ path: 'data.csv', kept_as: 'data (gpu-vm 2026-11-21 10.00).csv' }],
      left_there: [{ path: 'model.bin', size: 2_000_000_000, reason: '' }],
      skipped: [{ path: 'out', size: null, reason: 'it is a link to a place outside' }],
      problem: null,
      as_of: '2026-11-21T10:00:00.000Z'
    }
  ]
};

export const workspaceEstimate: IWorkspaceEstimate = {
  folder: 'work',
  compute: gpu.id,
  allowed: true,
  reason: '',
  files: 340,
  bytes: 84_000_000,
  needs_yes: false
};

export const outputs: ICellRunList = {
  version: 1_795_000_000_012,
  rows: [
    {
      cell: 'a1b2c3',
      widget: null,
      msg_id: 'm1',
      session: 's1',
      version: 1_795_000_000_012,
      source: 'print(1)',
      source_sha256: 'a8a7a8a7',
      state: 'running',
      status: null,
      execution_count: 3,
      started: '2026-03-01T12:00:00.000000Z',
      ended: null,
      prompts: [{ id: 'p1', prompt: 'name: ', password: false }],
      kept: 0,
      kept_text: 0,
      outputs: [{ output_type: 'stream', name: 'stdout', text: '1\n' }],
      cut: { messages: 2, bytes: 20_000_000 }
    }
  ],
  next: null,
  sessions: ['s2']
};

export const savedOutputs: ISavedOutputs = {
  files: [
    {
      path: 'analysis.ipynb',
      states: [
        { last_modified: '2026-03-01T12:00:00.000000Z', hash: '1111' },
        { last_modified: '2026-03-01T12:05:00.000000Z', hash: null }
      ]
    }
  ]
};

export const modules: IModuleList = {
  modules: [
    { name: 'numpy', package: 'numpy', state: 'present' },
    { name: 'sklearn', package: 'scikit-learn', state: 'missing' },
    { name: 'helpers', package: 'helpers', state: 'local' }
  ]
};

export const adviceRequest: IAdviceRequest = { sources: ['import pandas'] };

export const advice: IAdvice = {
  gpu: 'no_gain',
  sentences: [
    'A GPU brings this notebook nothing: pandas computes on the CPU here.',
    'The free tier has enough memory for it.'
  ],
  evidence: [
    {
      library: 'pandas',
      cell: 1,
      call: '',
      weight: 'none',
      text: 'pandas (code cell 1) computes on the CPU.',
      source: 'https://docs.rapids.ai/api/cudf/stable/cudf_pandas/usage/'
    }
  ],
  memory_gib: 1.5,
  fits: [
    {
      compute: gpu.id,
      name: gpu.name,
      size: gpu.size,
      price: gpu.price,
      state: 'off',
      gpu: true,
      fits: true,
      best: false
    }
  ]
};

export const terminal: ITerminal = { name: '1' };

export const sshCommand: ISSHCommand = { command: 'ssh -p 22 -l azureuser -- 192.0.2.7' };

export const questionList: IQuestionList = {
  revision: 1,
  questions: [
    {
      id: 'q-1',
      kind: 'start',
      kernel: kernel.id,
      path: kernel.path,
      compute: gpu.id,
      text: 'A cell of analysis.ipynb wants to start gpu-vm.',
      price: gpu.price,
      asked: '2026-11-21T10:00:00.000Z'
    }
  ]
};
