import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { IProblem } from './api';

/** The code of the problem that stands for "this server has no jupyter-dsvm". */
export const SERVER_EXTENSION_MISSING = 'ServerExtensionMissing';

/** The code of the problem that stands for "no answer from the Jupyter server". */
export const NO_ANSWER = 'NoAnswer';

/** What the server extension (or the server, or the network) answered instead of what was asked for. */
export class RequestError extends Error {
  constructor(
    readonly problem: IProblem,
    readonly status: number | null
  ) {
    super(problem.message);
    this.name = 'RequestError';
  }
}

/**
 * Ask the server extension.
 *
 * JupyterLab's `ServerConnection` adds the token or the XSRF header. Rejects with a `RequestError` only.
 *
 * @param path below `jupyter-dsvm/`; ids in it must already be URL-encoded.
 */
export async function request<T>(
  path: string,
  settings: ServerConnection.ISettings,
  init: RequestInit = {}
): Promise<T> {
  const method = init.method ?? 'GET';
  const url = URLExt.join(settings.baseUrl, 'jupyter-dsvm', path);
  let response: Response;
  let text: string;
  try {
    response = await ServerConnection.makeRequest(url, init, settings);
    text = await response.text();
  } catch (reason) {
    throw new RequestError(
      {
        code: NO_ANSWER,
        message: `The Jupyter server did not answer ${method} jupyter-dsvm/${path}: ${String(
          reason instanceof Error ? reason.message : reason
        )}`,
        advice: 'Check that it is running and that you are online. This page asks again by itself.'
      },
      null
    );
  }
  const data = parse(text);
  if (!response.ok) {
    throw new RequestError(problemOf(data, response, method, path), response.status);
  }
  if (data === undefined && response.status !== 204) {
    throw new RequestError(
      {
        code: 'NotJSON',
        message: `The Jupyter server answered ${method} jupyter-dsvm/${path} with something that is no JSON.`,
        advice: 'A proxy or a sign-in page may stand between. Reload the page.'
      },
      response.status
    );
  }
  return data as T;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problemOf(data: unknown, response: Response, method: string, path: string): IProblem {
  if (isProblem(data)) {
    return data;
  }
  if (response.status === 404) {
    return {
      code: SERVER_EXTENSION_MISSING,
      message: 'This Jupyter server has no jupyter-dsvm extension running.',
      advice:
        'Install jupyter-dsvm in the environment of the server, check it with “jupyter server extension list”, and start the server again.'
    };
  }
  const said =
    typeof data === 'object' && data !== null && 'message' in data && data.message
      ? String(data.message)
      : response.statusText;
  return {
    code: `HTTP${response.status}`,
    message:
      `The Jupyter server refused ${method} jupyter-dsvm/${path}: ${response.status} ${said}`.trim(),
    advice:
      response.status === 403
        ? 'Your session may have expired. Reload the page and sign in again.'
        : ''
  };
}

function isProblem(data: unknown): data is IProblem {
  return (
    typeof data === 'object' &&
    data !== null &&
    typeof (data as IProblem).code === 'string' &&
    typeof (data as IProblem).message === 'string' &&
    typeof (data as IProblem).advice === 'string'
  );
}

/** Whatever was thrown, as something that can be shown. */
export function asProblem(reason: unknown): IProblem {
  if (reason instanceof RequestError) {
    return reason.problem;
  }
  return {
    code: 'Page',
    message: reason instanceof Error ? reason.message : String(reason),
    advice: ''
  };
}
