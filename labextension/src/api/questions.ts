/** What a person has to allow. */
import { IPrice } from './computes';

/** What code of a notebook wants to do and a person has to allow: to start something that is billed, or to load what a VM sends. */
export interface IQuestion {
  id: string;
  kind: 'start' | 'resize' | 'carry';
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
