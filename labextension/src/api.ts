/**
 * The shapes of the REST API, by hand and field by field as in `jupyter_dsvm/openapi.yaml`.
 *
 * `__tests__/api.spec.ts` holds them against that file: a fixture that TypeScript accepts as one of these must also be
 * valid there, and the other way round for every enumeration and required field.
 */
export * from './api/outputs';

/** Jupyter event that says which list changed and its new revision; never what changed in it. */
export const CHANGED_SCHEMA_ID = 'https://events.jupyter.org/jupyter_dsvm/changed';

/** The id of the free tier: the Jupyter server that serves the page. */
export const FREE = 'free';

export type PowerState =
  'starting' | 'running' | 'stopping' | 'stopped' | 'deallocating' | 'deallocated' | 'unknown';
export type ComputeKind = 'free' | 'dsvm' | 'host';
export type LinkPhase = 'local' | 'connecting' | 'connected' | 'reconnecting' | 'gone';
export type OperationKind =
  | 'start'
  | 'stop'
  | 'restart'
  | 'resize'
  | 'create'
  | 'access'
  | 'forget'
  | 'attach'
  | 'detach'
  | 'install'
  | 'sync'
  | 'update';
export type OperationPhase = 'running' | 'done' | 'failed' | 'cancelled';
export type StepPhase = 'pending' | 'running' | 'done' | 'failed';
export type ComputeAction = 'start' | 'stop' | 'restart';

/** What was tried and what the other side said; what to do next. Both are shown to people. */
export interface IProblem {
  code: string;
  message: string;
  advice: string;
  /** Seconds. */
  retry_after?: number | null;
}

/** An Azure VM size, or the limits of the free tier. What is not known is null, never 0. */
export interface ISize {
  name: string;
  vcpus: number | null;
  memory_gib: number | null;
  gpus: number | null;
  gpu_model: string | null;
}

/** An estimate per hour. */
export interface IPrice {
  amount: number;
  currency: string;
  as_of: string;
}

/** Something a notebook can run on. */
export interface ICompute {
  /** Opaque, stable, URL-safe. */
  id: string;
  name: string;
  kind: ComputeKind;
  power_state: PowerState;
  os: 'linux' | 'windows';
  location: string | null;
  subscription: string | null;
  resource_group: string | null;
  image: string | null;
  size: ISize | null;
  price: IPrice | null;
  /** Paths of the notebooks that run there. */
  attached: string[];
  /** Deallocated with its memory kept: it can be started as it is, and not be resized. */
  hibernated: boolean;
  problem: IProblem | null;
  /** What this account was told that it may not do with it. */
  not_allowed: ('start' | 'stop' | 'resize')[];
  /** Null where it is off, or nobody watches it. */
  idle: IIdleStop | null;
}

export type IdlePhase = 'never' | 'busy' | 'kept' | 'idle' | 'stops_soon' | 'stop';

/** Whether and when a VM that is on is stopped by itself. */
export interface IIdleStop {
  state: IdlePhase;
  /** A sentence, without the time that is left: that is counted from `stops_at`. */
  text: string;
  /** Null where nothing is counted down. */
  stops_at: string | null;
  kept_until: string | null;
  /** After how many it is stopped; null: never for being idle. */
  idle_minutes: number | null;
  /** Since its start; it is stopped then whatever runs. */
  hard_limit_hours: number | null;
  /** `stops_at` is the hard limit's: what runs then is stopped too. */
  hard: boolean;
  /** Files on the VM's temporary disk that a stop loses. */
  lost: string[];
  safety: ISafetyStop | null;
}

/** The VM's own auto-shutdown schedule in Azure, which stops it where this server is no more. */
export interface ISafetyStop {
  kind: 'ours' | 'theirs' | 'none';
  text: string;
  /** When Azure stops it next, unless that is moved on. */
  at: string | null;
  /** False: it comes at that time, and nothing can be done about it any more. */
  averted: boolean;
}

/** What machines have cost, as an estimate; from `as_of` on it grows by `per_hour`. */
export interface ISpend {
  revision: number;
  as_of: string;
  /** Null where nothing is known yet. */
  currency: string | null;
  today: number;
  month: number;
  per_hour: number;
  computes: IComputeSpend[];
  budgets: IBudget[];
  /** Names of machines that were on this month with no known price: what they cost is not in here. */
  unpriced: string[];
}

export interface IComputeSpend {
  compute: string;
  name: string;
  today: number;
  month: number;
  /** What it costs now, its disk not counted: 0 where it is off. */
  per_hour: number;
}

export interface IBudget {
  /** Null: of all machines together. */
  compute: string | null;
  /** The machine's; empty where it is of all. */
  name: string;
  period: 'day' | 'month';
  limit: number;
  spent: number;
  /** A warning from 80 % on. */
  state: 'ok' | 'warning' | 'exceeded';
  /** Whether a start is refused once it is exceeded. */
  refuses: boolean;
}

/** A size that a machine could have. */
export interface ISizeOffer {
  size: ISize;
  price: IPrice | null;
  current: boolean;
  available: boolean;
  /** Why it cannot be had; empty where it can. */
  reason: string;
  warnings: string[];
}

export interface ISizeOfferList {
  sizes: ISizeOffer[];
  /** What a resize does to this machine, or why it cannot be resized at all. */
  notice: string;
}

/** What somebody wants to have made; what is null is the server's to choose. */
export interface INewCompute {
  name: string;
  location: string;
  size: string;
  /** Its id or its name. */
  subscription: string | null;
  resource_group: string | null;
  /** Without a public address. */
  private: boolean | null;
  /** Who may reach its SSH port: an address, or a network in CIDR notation. */
  source_address: string | null;
  /** As large as the image when null. */
  disk_gib: number | null;
}

export interface ISubscriptionOffer {
  id: string;
  name: string;
  available: boolean;
  /** Why nothing can be made there; empty where it can. */
  reason: string;
}

export interface ILocationOffer {
  name: string;
  text: string;
}

/** What a new machine can be like. */
export interface ICreation {
  allowed: boolean;
  /** Why none can be made; empty where one can. */
  reason: string;
  subscriptions: ISubscriptionOffer[];
  /** The one that the rest is about. */
  subscription: string | null;
  locations: ILocationOffer[];
  /** The one that the sizes are about. */
  location: string | null;
  sizes: ISizeOffer[];
  image: string;
  /** Where it goes unless somebody says otherwise. */
  resource_group: string;
  /** Who may reach its SSH port; empty: whoever makes it has to say. */
  source_address: string;
  /** Whether new machines never have a public address. */
  private_only: boolean;
  /** What it costs beside the price per hour. */
  notice: string;
}

export type SignInPhase = 'signed_out' | 'prompting' | 'signed_in' | 'failed';
export type SignInMethod =
  | 'device_code'
  | 'pasted_token'
  | 'token_file'
  | 'environment'
  | 'workload_identity'
  | 'managed_identity'
  | 'azure_cli';

/** Who is signed in to the cloud, or how an attempt stands. A code is in the answer to who asked for it, only. */
export interface ISignIn {
  revision: number;
  state: SignInPhase;
  cloud: string | null;
  method: SignInMethod | null;
  account: string | null;
  tenant: string | null;
  tenants: string[];
  kept: boolean;
  id: string | null;
  url: string | null;
  code: string | null;
  expires: string | null;
  error: IProblem | null;
}

/** The body of `POST signin`: how to ask for a code, or a token alone. */
export interface ISignInRequest {
  tenant?: string;
  keep?: boolean;
  token?: string;
}

export interface IComputeList {
  revision: number;
  computes: ICompute[];
  /** What could not be asked, for example one subscription of several. */
  problems: IProblem[];
  /** When the cloud was last asked. */
  as_of: string | null;
}

/** Whether a kernel can be reached. Only `gone` is confirmed; everything else may still be running. */
export interface ILinkState {
  state: LinkPhase;
  since: string;
  attempt: number;
  reason: string;
}

/** A kernel whose front the server holds. */
export interface IKernel {
  id: string;
  path: string | null;
  /** The id of the compute it runs on. */
  compute: string;
  kernelspec: string;
  link: ILinkState;
  execution_state: string;
  last_activity: string;
  /** The id of the compute of a move that is under way. */
  moving_to: string | null;
  /** The id of the compute where the notebook last ran, if that is elsewhere and it was not brought back from there. */
  last_compute: string | null;
  /** Why its process ended without anybody's asking; `OutOfMemory` is one code. */
  problem: IProblem | null;
}

export interface IKernelList {
  revision: number;
  kernels: IKernel[];
}

export interface IKernelspec {
  name: string;
  display_name: string;
  language: string;
}

export interface IKernelspecList {
  kernelspecs: IKernelspec[];
}

export interface IStep {
  name: string;
  text: string;
  state: StepPhase;
}

/** A long change. `compute` is what it changes or moves to; `kernel` what it moves. */
export interface IOperation {
  id: string;
  kind: OperationKind;
  compute: string | null;
  kernel: string | null;
  state: OperationPhase;
  steps: IStep[];
  /** 0 to 1. */
  progress: number | null;
  error: IProblem | null;
  started: string;
  ended: string | null;
  /** A sentence for the user when it is done. */
  notice: string;
  /** Begun by somebody else, in the portal or by another server. */
  elsewhere: boolean;
}

export interface IOperationList {
  revision: number;
  operations: IOperation[];
}

/** The body of `PUT kernels/{kernel_id}/compute`. */
export interface IMoveRequest {
  compute: string;
  kernelspec?: string;
  /** What still runs once the new kernel has answered is interrupted rather than waited for. */
  interrupt?: boolean;
  /** Whether the notebook's folder goes along; true also is the yes for a large one. As the server is set when absent. */
  sync?: boolean;
}

/** The body of `POST workspaces/{id}/sync`. */
export interface ISyncRequest {
  direction?: 'both' | 'push' | 'pull';
  /** Carry out what a sync had stopped before. */
  force?: boolean;
  /** Also where it is more than the server copies without being told. */
  yes?: boolean;
}

/** Which version of a file stays: this server's or the VM's. */
export type Keep = 'mine' | 'theirs';

/** The body of `POST workspaces/{id}/conflicts`. */
export interface IConflictRequest {
  path: string;
  keep: Keep;
}

/** The body of `POST workspaces/{id}/fetch`. */
export interface IFetchRequest {
  paths: string[];
}

/** The body of `POST computes/{id}/modules`. */
export interface IModulesRequest {
  /** The text of code cells. */
  sources: string[];
  /** Which kernel there; the usual Python kernel when null. */
  kernelspec?: string | null;
  /** The notebook's, to tell modules that lie beside it. */
  path?: string | null;
}

/** The body of `POST computes/{id}/install`. */
export interface IInstallRequest {
  /** Names, with versions where needed. */
  packages: string[];
  kernelspec?: string | null;
}

/** The body of `POST computes/{id}/resize`. */
export interface IResizeRequest {
  size: string;
  /** Whether the kernels that run there may end with it. */
  end_kernels?: boolean;
}

/** GiB. */
export interface IUsage {
  used_gib: number;
  total_gib: number;
}

export interface IGPUUse {
  name: string;
  /** 0 to 1. */
  utilization: number | null;
  memory: IUsage | null;
}

/** How much of a compute is in use now. What is not known is null. */
export interface IMetrics {
  compute: string;
  as_of: string;
  /** 0 to 1, of all CPUs. */
  cpu: number | null;
  /** Of the free tier: what counts against its limit. */
  memory: IUsage | null;
  /** The file system of the home folder; of the free tier the user's data against its limit. */
  disk: IUsage | null;
  gpus: IGPUUse[];
}

/** A module that a notebook imports, as seen from a kernel on a machine. */
export interface IModule {
  name: string;
  /** What to install for it; empty where that is not known, or it is not missing. */
  package: string;
  /** `local`: beside the notebook. */
  state: 'present' | 'missing' | 'local' | 'unknown';
}

export interface IModuleList {
  modules: IModule[];
}

/** The body of `POST kernels/{kernel_id}/advice`. */
export interface IAdviceRequest {
  /** The text of code cells; the notebook as it was last saved when absent. */
  sources?: string[] | null;
}

/** What a grade follows from: one thing that a notebook does with a library. */
export interface IGPUEvidence {
  library: string;
  /** Of the code cells, from 1. */
  cell: number;
  /** What asks for a GPU, as it is written; empty for an import. */
  call: string;
  /** `could`: as it is called it computes on the CPU. */
  weight: 'needs' | 'gains' | 'could' | 'none';
  /** A sentence. */
  text: string;
  /** The page that says so of the library. */
  source: string;
}

/** Something that a notebook could run on. */
export interface IFit {
  /** Null: a size that a machine could have. */
  compute: string | null;
  name: string;
  size: ISize | null;
  price: IPrice | null;
  /** In words. */
  state: string;
  gpu: boolean;
  /** Whether its memory is enough; null where that is not known. */
  fits: boolean | null;
  /** The one that is meant by the advice. */
  best: boolean;
}

/** CPU or GPU for a notebook, and what fits. */
export interface IAdvice {
  gpu: 'needed' | 'gains' | 'no_gain' | 'unknown';
  /** The first says whether a GPU is worth it. */
  sentences: string[];
  evidence: IGPUEvidence[];
  /** What it needs, as far as that is known. */
  memory_gib: number | null;
  fits: IFit[];
}

export type WorkspacePhase =
  'off' | 'waiting' | 'copying' | 'in_step' | 'conflicts' | 'halted' | 'failed';

/** A file that both sides had changed. This server's version has the name, the other is kept beside it. */
export interface IWorkspaceConflict {
  /** Relative to the workspace. */
  path: string;
  /** Where the VM's version is. */
  kept_as: string;
}

/** A file that stayed where it was. */
export interface IWorkspaceFile {
  path: string;
  /** Bytes. */
  size: number | null;
  reason: string;
}

/** A folder here whose files are on a VM too. */
export interface IWorkspace {
  id: string;
  compute: string;
  /** Relative to the server's root; empty: the root itself. */
  folder: string;
  kernels: string[];
  state: WorkspacePhase;
  text: string;
  files: number;
  bytes: number;
  /** 0 to 1. */
  progress: number | null;
  conflicts: IWorkspaceConflict[];
  /** On the VM only, since this server has no room for them. */
  left_there: IWorkspaceFile[];
  skipped: IWorkspaceFile[];
  problem: IProblem | null;
  /** When both sides were last in step. */
  as_of: string | null;
}

export interface IWorkspaceList {
  revision: number;
  workspaces: IWorkspace[];
}

/** What would travel with a notebook to a compute. */
export interface IWorkspaceEstimate {
  folder: string;
  compute: string;
  allowed: boolean;
  /** Why its files cannot travel; empty where they can. */
  reason: string;
  files: number;
  bytes: number;
  /** So much that it is only copied if somebody says so. */
  needs_yes: boolean;
}

/** A terminal of the Jupyter server. */
export interface ITerminal {
  /** As `api/terminals` names it. */
  name: string;
}

/** A line for a shell of the Jupyter server. */
export interface ISSHCommand {
  command: string;
}

/** What code of a notebook wants to do and a person has to allow: to start something that is billed. */
export interface IQuestion {
  id: string;
  kind: 'start' | 'resize';
  kernel: string;
  path: string | null;
  compute: string;
  /** The question, in sentences. */
  text: string;
  price: IPrice | null;
  asked: string;
}

export interface IQuestionList {
  revision: number;
  questions: IQuestion[];
}

/** The data of a Jupyter event with `CHANGED_SCHEMA_ID`. */
export interface IChanged {
  what: 'computes' | 'kernels' | 'operations' | 'signin' | 'questions' | 'workspaces' | 'spend';
  id?: string;
  revision: number;
}
