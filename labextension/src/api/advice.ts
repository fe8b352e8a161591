/** CPU or GPU for a notebook. */
import { IPrice, ISize } from './computes';

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
