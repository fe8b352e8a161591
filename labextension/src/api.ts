/**
 * The shapes of the REST API, by hand and field by field as in `jupyter_dsvm/openapi.yaml`.
 *
 * `__tests__/api.spec.ts` holds them against that file: a fixture that TypeScript accepts as one of these must also be
 * valid there, and the other way round for every enumeration and required field.
 */
export * from './api/advice';
export * from './api/computes';
export * from './api/events';
export * from './api/files';
export * from './api/idle';
export * from './api/kernels';
export * from './api/modules';
export * from './api/operations';
export * from './api/outputs';
export * from './api/problems';
export * from './api/questions';
export * from './api/signin';
export * from './api/sizes';
export * from './api/spend';
export * from './api/variables';
