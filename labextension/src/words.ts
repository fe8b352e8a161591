/**
 * How states are said: from the server's shapes to sentences and to what a person can do next. Pure.
 */
import { TranslationBundle } from '@jupyterlab/translation';

import { FREE, ICompute, IOperation, IPrice, ISignIn, ISize, IStep, SignInMethod } from './api';

/** What a state looks like: an icon and a colour, always beside words. */
export type Tone = 'on' | 'busy' | 'off' | 'warn' | 'gone';

/** “4 CPU · 28 GB · 1 × T4”; what is not known is left out. */
export function sizeText(size: ISize | null, trans: TranslationBundle): string {
  if (!size) {
    return '';
  }
  const parts: string[] = [];
  if (size.vcpus) {
    parts.push(trans.__('%1 CPU', size.vcpus));
  }
  if (size.memory_gib) {
    parts.push(memoryText(size.memory_gib, trans));
  }
  if (size.gpus) {
    parts.push(
      size.gpu_model
        ? trans.__('%1 × %2', size.gpus, gpuText(size.gpu_model))
        : trans.__('%1 GPU', size.gpus)
    );
  }
  return parts.join(' · ');
}

/** “T4” of “NVIDIA T4 16 GB”: the maker and the memory are known from the name, and there is little room. */
export function gpuText(model: string): string {
  return model.replace(/^(NVIDIA|AMD)\s+/i, '').replace(/\s+\d+\s*GB$/i, '');
}

/** “28 GB”. */
export function memoryText(gib: number, trans: TranslationBundle): string {
  return trans.__('%1 GB', gib >= 10 ? Math.round(gib) : Math.round(gib * 10) / 10);
}

/** “NC4as_T4_v3” of “Standard_NC4as_T4_v3”: all have that in front. */
export function shortSizeName(name: string): string {
  return name.replace(/^Standard_/, '');
}

/** “~$0.53/h”; an estimate, hence the tilde. */
export function priceText(price: IPrice, trans: TranslationBundle): string {
  return trans.__('~%1/h', amountText(price.amount, price.currency));
}

/** “$0.53”. */
export function amountText(amount: number, currency: string, isWhole = false): string {
  try {
    return new Intl.NumberFormat('en-US', {
      style: 'currency',
      currency,
      ...(isWhole && { minimumFractionDigits: 0, maximumFractionDigits: 0 })
    }).format(amount);
  } catch {
    return `${isWhole ? Math.round(amount) : amount} ${currency}`;
  }
}

/** “1 min 52 s” between two moments of the server. */
export function durationText(from: string, to: string, trans: TranslationBundle): string {
  const seconds = Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000));
  if (!Number.isFinite(seconds)) {
    return '';
  }
  if (seconds < 60) {
    return trans.__('%1 s', seconds);
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? trans.__('%1 min %2 s', minutes, seconds % 60)
    : trans.__('%1 h %2 min', Math.floor(minutes / 60), minutes % 60);
}

/** “40 s”, “2 min”: roughly how long something takes. */
export function aboutText(seconds: number, trans: TranslationBundle): string {
  return seconds < 55
    ? trans.__('%1 s', Math.max(5, Math.round(seconds / 5) * 5))
    : trans.__('%1 min', Math.max(1, Math.round(seconds / 60)));
}

/** “40 s”, “2 min”: from a moment of the server until `now`. */
export function agoText(since: string, now: number, trans: TranslationBundle): string {
  const seconds = Math.max(1, Math.floor((now - Date.parse(since)) / 1000) || 0);
  if (seconds < 60) {
    return trans.__('%1 s', seconds);
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? trans.__('%1 min', minutes)
    : trans.__('%1 h %2 min', Math.floor(minutes / 60), minutes % 60);
}

/** Where a price is from. */
export function priceSource(price: IPrice, trans: TranslationBundle): string {
  return trans.__(
    'List price from the Azure Retail Prices API, as of %1; your own price may differ.',
    price.as_of
  );
}

/** A moment of the server, as the clock on the wall shows it. */
export function clockText(moment: string): string {
  const date = new Date(moment);
  return Number.isNaN(date.valueOf())
    ? moment
    : date.toLocaleTimeString([], { timeStyle: 'short' });
}

/** What a compute is called in a sentence. */
export function nameOf(
  compute: ICompute | undefined,
  id: string | null,
  trans: TranslationBundle
): string {
  if (compute?.kind === 'free' || (!compute && id === FREE)) {
    return trans.__('Free tier');
  }
  return compute?.name ?? trans.__('a machine that is no longer listed');
}

/** What tells a machine from others of its name: the resource group, and the subscription where that is the same too. */
export function qualifierOf(compute: ICompute, all: readonly ICompute[]): string | undefined {
  const twins = all.filter(other => other.name === compute.name);
  if (twins.length < 2) {
    return undefined;
  }
  const sameGroup =
    twins.filter(other => other.resource_group === compute.resource_group).length > 1;
  return (
    [sameGroup ? compute.subscription : null, compute.resource_group].filter(Boolean).join('/') ||
    undefined
  );
}

/** Number (from 1) and text of the step that is under way, or of the last one done. */
export function currentStep(
  operation: IOperation
): { number: number; of: number; step: IStep } | null {
  const { steps } = operation;
  if (steps.length === 0) {
    return null;
  }
  let index = steps.findIndex(step => step.state === 'running' || step.state === 'failed');
  if (index < 0) {
    const pending = steps.findIndex(step => step.state === 'pending');
    index = pending < 0 ? steps.length - 1 : pending;
  }
  return { number: index + 1, of: steps.length, step: steps[index] };
}

/** “Step 2 of 4: Starting gpu-vm.” */
export function operationText(operation: IOperation, trans: TranslationBundle): string {
  const at = currentStep(operation);
  return at
    ? trans.__('Step %1 of %2: %3', at.number, at.of, withPoint(at.step.text))
    : trans.__('Working on it.');
}

/** Of an operation that none of ours began. */
export function elsewhereText(trans: TranslationBundle): string {
  return trans.__('Started elsewhere, for example in the Azure portal.');
}

/** The server's texts may or may not end in a point; sentences here do. */
export function withPoint(text: string): string {
  return /[.!?…]$/.test(text.trim()) ? text.trim() : `${text.trim()}.`;
}

/** What the cloud says of a machine. */
export function powerText(compute: ICompute, trans: TranslationBundle): string {
  switch (compute.power_state) {
    case 'running':
      return trans.__('On.');
    case 'deallocated':
      return trans.__('Off.');
    case 'stopped':
      return trans.__('Off, but still billed.');
    case 'starting':
      return trans.__('Starting.');
    case 'stopping':
      return trans.__('Stopping.');
    case 'deallocating':
      return trans.__('Stopping and releasing.');
    default:
      return trans.__('Azure does not say whether it is on.');
  }
}

/** One or two words for a menu. */
export function shortState(
  compute: ICompute,
  operation: IOperation | undefined,
  trans: TranslationBundle
): string {
  if (operation) {
    return trans.__('busy');
  }
  switch (compute.power_state) {
    case 'running':
      return trans.__('on');
    case 'deallocated':
      return trans.__('off');
    case 'stopped':
      return trans.__('off, still billed');
    case 'starting':
      return trans.__('starting');
    case 'stopping':
    case 'deallocating':
      return trans.__('stopping');
    default:
      return '';
  }
}

/** “Signed in as **ada@example.com** with the Azure CLI.”, in three parts around the account. */
export function signedInParts(
  status: ISignIn,
  trans: TranslationBundle
): { before: string; account: string; after: string } {
  const ways: Record<SignInMethod, string> = {
    device_code: '',
    pasted_token: trans.__('with a token that was pasted'),
    token_file: trans.__('with the token in AzureCompute.token_file'),
    environment: trans.__('with AZURE_CLIENT_ID of the environment'),
    workload_identity: trans.__('with workload identity'),
    managed_identity: trans.__('with the machine’s managed identity'),
    azure_cli: trans.__('with the Azure CLI'),
    hub: trans.__('as on the hub')
  };
  const way = status.method ? ways[status.method] : '';
  const account = status.account ?? '';
  const sentence = !account
    ? trans.__('Signed in %1.', way)
    : way
      ? trans.__('Signed in as %1 %2.', '%1', way)
      : trans.__('Signed in as %1.', '%1');
  const kept = status.kept ? ` ${trans.__('Kept, encrypted.')}` : '';
  const [before, after = ''] = `${sentence}${kept}`.split('%1');
  return { before, account, after };
}

/** What is known of it, with points between. */
export function dotted(...parts: string[]): string {
  return parts.filter(Boolean).join(' · ');
}
